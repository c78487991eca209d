"""One database for each module here: a test finds its tables empty, and must leave no transaction open."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.provider.databases import migrated_database, open_transactions
from wfe_postgres.rows import Base

EMPTY = f"TRUNCATE {', '.join(map(str, Base.metadata.sorted_tables))} RESTART IDENTITY"


@pytest.fixture(scope="module")
def module_url(server: str, template: str) -> Iterator[str]:
    """A migrated database of this module's own."""
    with migrated_database(server, template) as url:
        yield url


@pytest.fixture
def database_url(module_url: str) -> Iterator[str]:
    """The module's database, with empty tables."""
    with psycopg.connect(module_url, autocommit=True) as connection:
        connection.execute(EMPTY.encode())
        yield module_url
        assert open_transactions(connection) == []
