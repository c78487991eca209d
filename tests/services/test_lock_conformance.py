"""The conformance suite for lock services on PostgreSQL: directly, on an application's engine, and elsewhere."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Engine

from tests.conformance.test_postgres import HOSTILE_DEFAULTS
from tests.services.kit import shared_database
from tests.services.kit.shared_database import engine, pooled_url, url
from wfe_postgres.services import PostgresLockProvider
from wfe_postgres.testing.conformance import LockConformance

__all__ = ["engine", "pooled_url", "url"]

Make = Callable[[], PostgresLockProvider]

emptied = partial(shared_database.emptied, table="lock_leases")


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


class TestUnderHostileDefaults(TestWithUrl):
    """In a database with unusual defaults for time zone, date style, isolation level and others."""

    defaults = HOSTILE_DEFAULTS


class TestThroughPgBouncer(LockConformance):
    """In transaction mode; nothing is left in the server's sessions."""

    @pytest.fixture
    def make_locks(self, pooled_url: str) -> Iterator[Make]:
        options = {"prepare_threshold": None}
        with emptied(partial(PostgresLockProvider, pooled_url, connect_args=options)) as make:
            yield make
