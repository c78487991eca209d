"""One database for each module here: a test finds its tables empty, and must leave no transaction open."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import QueuePool

from tests.conftest import Sql
from tests.provider.app import MAKE_ORDERS, NO_ORDERS, PLACES, InTransaction, Open
from tests.provider.databases import migrated_database, open_transactions
from wfe_postgres.orm import Base

EMPTY = "; ".join(f"DELETE FROM {table}" for table in reversed(Base.metadata.sorted_tables))


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


@pytest.fixture
def own_database(server: str, template: str) -> Iterator[str]:
    """A migrated database that a test may break."""
    with migrated_database(server, template) as url:
        yield url


@pytest.fixture
def app_engine(database_url: str, sql: Sql) -> Iterator[Engine]:
    """The application's own engine."""
    sql(MAKE_ORDERS)
    sql(NO_ORDERS)
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    yield engine
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedout() == 0
    engine.dispose()


@pytest.fixture(params=list(PLACES.values()), ids=list(PLACES))
def begun(request: pytest.FixtureRequest, app_engine: Engine, database_url: str) -> Iterator[InTransaction]:
    """A transaction of the application's, in each of the places."""
    open_place: Open = request.param
    with open_place(app_engine, database_url) as transaction:
        yield transaction
