"""Module-scoped providers, with and without the proxy."""

from collections.abc import Iterator

import pytest

from tests.protocol.proxy import Proxy
from tests.provider.databases import migrated_database
from wfe_postgres import PostgresPersistenceProvider


@pytest.fixture(scope="module")
def proxy(server: str, template: str) -> Iterator[Proxy]:
    """A proxy in front of a migrated database."""
    with migrated_database(server, template) as url, Proxy(url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(proxy: Proxy) -> Iterator[PostgresPersistenceProvider]:
    """A provider that connects through the proxy. One thread uses it, so it has one connection."""
    with PostgresPersistenceProvider(proxy.url) as provider:
        yield provider


@pytest.fixture(scope="module")
def shared(server: str, template: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider for the module, connected directly."""
    with migrated_database(server, template) as url, PostgresPersistenceProvider(url) as provider:
        yield provider
