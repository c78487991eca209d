"""The conformance suite for lock services on PostgreSQL: directly, on an application's engine, and elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import pytest
from sqlalchemy import Engine, create_engine, make_url

from tests.conformance.test_postgres import database
from tests.faults.kit.bouncer import left_behind, pgbouncer
from tests.faults.kit.form import require_tool
from wfe_postgres.services import PostgresLockProvider
from wfe_postgres.testing.conformance import LockConformance

Make = Callable[[], PostgresLockProvider]


@contextmanager
def emptied(make: Make) -> Iterator[Make]:
    """The factory, on an empty table; what it has made is closed at the end."""
    made = [make()]
    with made[0].engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {made[0].schema}.lock_leases")

    def make_one() -> PostgresLockProvider:
        made.append(make())
        return made[-1]

    yield make_one
    for locks in made:
        locks.close()


@pytest.fixture(scope="class")
def url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """A database that all tests of the class share, with its settings."""
    with database(server, template, getattr(request.cls, "defaults", {})) as url:
        yield url


@pytest.fixture(scope="class")
def engine(url: str) -> Iterator[Engine]:
    """The application's engine."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


class TestWithUrl(LockConformance):
    """With an engine of its own for each provider."""

    @pytest.fixture
    def make_locks(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresLockProvider, url)) as make:
            yield make


class TestOnEngine(LockConformance):
    """On an application's engine, which the providers share."""

    @pytest.fixture
    def make_locks(self, engine: Engine) -> Iterator[Make]:
        with emptied(partial(PostgresLockProvider.from_engine, engine)) as make:
            yield make


class TestInAnotherSchema(LockConformance):
    """Beside a store in the default schema, whose locks are others."""

    @pytest.fixture
    def make_locks(self, engine: Engine) -> Iterator[Make]:
        make_one = partial(PostgresLockProvider.from_engine, engine, schema="another_schema")
        make_one().ensure_store_exists()
        beside = PostgresLockProvider.from_engine(engine)
        assert beside.acquire_lock("order")
        with emptied(make_one) as make:
            yield make
        assert beside.is_held("order")
        beside.stop()


class TestUnderHostileDefaults(LockConformance):
    """In a database with unusual defaults for time zone, date style, isolation level and others."""

    defaults: ClassVar[dict[str, str]] = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "default_transaction_isolation": "serializable",
        "search_path": "pg_catalog",
        "synchronous_commit": "off",
    }

    @pytest.fixture
    def make_locks(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresLockProvider, url)) as make:
            yield make


class TestThroughPgBouncer(LockConformance):
    """In transaction mode; nothing is left in the server's sessions."""

    @pytest.fixture
    def make_locks(self, server: str, url: str) -> Iterator[Make]:
        require_tool("pgbouncer")
        with pgbouncer(server) as bouncer:
            unprepared = {"prepare_threshold": None}
            with emptied(partial(PostgresLockProvider, bouncer.url(url), connect_args=unprepared)) as make:
                yield make
            assert left_behind(bouncer, url) == []
