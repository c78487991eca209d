"""Fixtures: one database per module, with its tables emptied before each test."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Dialect, Engine, create_engine, make_url
from sqlalchemy.pool import QueuePool

from tests.conftest import Sql
from tests.provider.app import MAKE_ORDERS, NO_ORDERS, TRANSACTIONS, InTransaction, Open
from tests.provider.databases import migrated_database, open_transactions
from tests.provider.invoices import ShopBase
from wfe_postgres.orm import Base

EMPTY = "; ".join(f"DELETE FROM {table}" for table in reversed(Base.metadata.sorted_tables))


@pytest.fixture(scope="module")
def module_url(server: str, template: str) -> Iterator[str]:
    """A migrated database for the module."""
    with migrated_database(server, template) as url:
        yield url


@pytest.fixture
def database_url(module_url: str) -> Iterator[str]:
    """The module's database, with empty tables; the test must not leave a transaction open."""
    with psycopg.connect(module_url, autocommit=True) as connection:
        connection.execute(EMPTY.encode())
        yield module_url
        assert open_transactions(connection) == []


@pytest.fixture
def own_database(server: str, template: str) -> Iterator[str]:
    """A migrated database for one test, which may alter its tables."""
    with migrated_database(server, template) as url:
        yield url


@pytest.fixture
def app_engine(database_url: str, sql: Sql) -> Iterator[Engine]:
    """An engine of the application."""
    sql(MAKE_ORDERS)
    sql(NO_ORDERS)
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    yield engine
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedout() == 0
    engine.dispose()


@pytest.fixture(params=list(TRANSACTIONS.values()), ids=list(TRANSACTIONS))
def transaction(request: pytest.FixtureRequest, app_engine: Engine, database_url: str) -> Iterator[InTransaction]:
    """A transaction of the application, for each kind of session and connection."""
    open_transaction: Open = request.param
    with open_transaction(app_engine, database_url) as transaction:
        yield transaction


@pytest.fixture
def invoices(app_engine: Engine) -> Iterator[Engine]:
    """The application's engine, with the table `invoices` in its database."""
    ShopBase.metadata.create_all(app_engine)
    yield app_engine
    ShopBase.metadata.drop_all(app_engine)


@pytest.fixture
def no_listener_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy's flags for listeners of all engines stay set when they are removed."""
    for kind in (Engine, Dialect):
        monkeypatch.setattr(kind, "_has_events", False)


@pytest.fixture
def make_engine(database_url: str) -> Iterator[Callable[..., Engine]]:
    """Creates an engine of an application's, with these options."""
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        engines.append(create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()
