"""Fixtures for the conformance suites of locks and queues: a database that the tests of a class share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from sqlalchemy import Engine, create_engine, make_url

from tests.conformance.test_postgres import database
from tests.faults.kit.bouncer import left_behind, pgbouncer
from tests.faults.kit.form import require_tool
from wfe_postgres.services import PostgresLockProvider, PostgresQueueProvider

Service = TypeVar("Service", PostgresLockProvider, PostgresQueueProvider)


@contextmanager
def emptied(make: Callable[[], Service], table: str) -> Iterator[Callable[[], Service]]:
    """The factory, on an empty table; what it has made is closed at the end."""
    made = [make()]
    with made[0].engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {made[0].schema}.{table}")

    def make_one() -> Service:
        made.append(make())
        return made[-1]

    yield make_one
    for service in made:
        service.close()


@pytest.fixture(scope="class")
def url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """A database that all tests of the class share, with the defaults that the class names."""
    with database(server, template, getattr(request.cls, "defaults", {})) as url:
        yield url


@pytest.fixture(scope="class")
def engine(url: str) -> Iterator[Engine]:
    """The application's engine."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture
def pooled_url(server: str, url: str) -> Iterator[str]:
    """The database through PgBouncer in transaction mode; at the end nothing is left in the server's sessions."""
    require_tool("pgbouncer")
    with pgbouncer(server) as bouncer:
        yield bouncer.url(url)
        assert left_behind(bouncer, url) == []
