"""A provider whose way to the server leads through the proxy; one for each module."""

from collections.abc import Iterator

import pytest

from tests.protocol.proxy import Proxy
from tests.provider.databases import migrated_database
from wfe_postgres import PostgresPersistenceProvider


@pytest.fixture(scope="module")
def proxy(server: str, template: str) -> Iterator[Proxy]:
    """Before a migrated database."""
    with migrated_database(server, template) as url, Proxy(url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(proxy: Proxy) -> Iterator[PostgresPersistenceProvider]:
    """A provider behind it. One thread uses it, so it has one connection."""
    with PostgresPersistenceProvider(proxy.url) as provider:
        yield provider


@pytest.fixture(scope="module")
def shared(server: str, template: str) -> Iterator[PostgresPersistenceProvider]:
    """One provider for the module."""
    with migrated_database(server, template) as url, PostgresPersistenceProvider(url) as provider:
        yield provider
