"""The conformance suite for hosts on `WorkflowHost`, in memory and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import WorkflowHost
from wfe_postgres.testing import HostConformance, InMemoryPersistenceProvider
from wfe_postgres.testing.conformance import MakeHost


class OwnHost(HostConformance):
    """The host of this library."""

    @pytest.fixture
    def make_host(self) -> MakeHost:
        return WorkflowHost


class TestInMemory(OwnHost):
    """The complete suite."""

    @pytest.fixture
    def provider(self) -> InMemoryPersistenceProvider:
        return InMemoryPersistenceProvider()


class TestOnPostgres(OwnHost):
    """The complete suite."""

    @pytest.fixture
    def provider(self, database_url: str) -> Iterator[PostgresPersistenceProvider]:
        with PostgresPersistenceProvider(database_url) as provider:
            yield provider
