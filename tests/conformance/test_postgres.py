"""The conformance suite on PostgreSQL: in another schema, under hostile defaults, in callers' transactions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import ClassVar
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.orm import SCHEMA, Base
from wfe_postgres.testing.conformance import (
    Configure,
    Conformance,
    LeaseConformance,
    PersistenceConformance,
    RaceConformance,
    SequentialConformance,
)

Place = Session | Connection | psycopg.Connection


@contextmanager
def database(server: str, template: str, defaults: dict[str, str]) -> Iterator[str]:
    """The URL of a new database, in which these settings are the defaults of every connection."""
    name = sql.Identifier(f"wfe_{uuid4().hex}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        for setting, value in defaults.items():
            change = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(change.format(name, sql.Identifier(setting), sql.Literal(value)))
        try:
            yield make_url(server).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


class Configuration(Conformance):
    """What a class of tests says about its database."""

    schema: ClassVar[str] = SCHEMA
    defaults: ClassVar[dict[str, str]] = {}


@pytest.fixture(scope="class")
def store(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider on a database that all tests of the class share, one after the other."""
    configuration: type[Configuration] = request.cls
    with (
        database(server, template, configuration.defaults) as url,
        PostgresPersistenceProvider(url, schema=configuration.schema) as provider,
    ):
        provider.ensure_store_exists()
        yield provider
        if configuration.schema != SCHEMA:
            check_empty(PostgresPersistenceProvider.from_engine(provider.engine))


class EachCall(Configuration):
    """Each call is a transaction of its own."""

    @pytest.fixture
    def provider(self, store: PostgresPersistenceProvider) -> Iterator[PersistenceProvider]:
        delete_all(store, self.schema)
        yield store
        assert isinstance(store.engine.pool, QueuePool)
        assert store.engine.pool.checkedout() == 0

    @pytest.fixture
    def configure(self, store: PostgresPersistenceProvider) -> Configure:
        return partial(PostgresPersistenceProvider.from_engine, store.engine, schema=self.schema)


class TestPostgres(EachCall, PersistenceConformance):
    """As it comes."""


class TestInAnotherSchema(EachCall, SequentialConformance):
    """In a schema of another name, beside a store in the usual one, which stays empty."""

    schema = "another_schema"


class TestUnderHostileDefaults(EachCall, SequentialConformance, RaceConformance, LeaseConformance):
    """In a database whose defaults are another timezone, date style and isolation level than the usual ones."""

    defaults: ClassVar[dict[str, str]] = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "default_transaction_isolation": "serializable",
        "search_path": "pg_catalog",
        "extra_float_digits": "0",
        "bytea_output": "escape",
        "lc_numeric": "C",
    }


class Inside(Configuration, SequentialConformance):
    """What one thread can see, in a caller's transaction that is rolled back after each test."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[Place]:
        """The caller's session or connection, closed at the end."""
        raise NotImplementedError

    @pytest.fixture
    def provider(self, place: Place, joined: PostgresPersistenceProvider) -> Iterator[PersistenceProvider]:
        yield joined
        place.rollback()


@pytest.fixture(scope="class")
def place(request: pytest.FixtureRequest, store: PostgresPersistenceProvider) -> Iterator[Place]:
    """What the caller works on; after all tests of the class nothing has been committed."""
    with request.cls.connect(store) as place:
        yield place
    check_empty(store)


@pytest.fixture(scope="class")
def joined(store: PostgresPersistenceProvider, place: Place) -> PostgresRepositories:
    """The provider inside the caller's transactions, one after the other."""
    return store.using(place)


class TestInsideASession(Inside):
    """In a SQLAlchemy session."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[Place]:
        return Session(store.engine)


class TestInsideAConnection(Inside):
    """In a SQLAlchemy connection's transaction, at the strictest level of isolation."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[Place]:
        return store.engine.connect().execution_options(isolation_level="SERIALIZABLE")


class TestInsideAPsycopgConnection(Inside):
    """In a psycopg connection, as Django has one."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[Place]:
        url = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url)


def delete_all(provider: PostgresPersistenceProvider, schema: str) -> None:
    """Empty the tables; with few rows in them this is much faster than to truncate them."""
    statements = [f"DELETE FROM {schema}.{table.name}" for table in reversed(Base.metadata.sorted_tables)]
    with provider.engine.begin() as connection:
        connection.exec_driver_sql("; ".join(statements))


def check_empty(provider: PostgresPersistenceProvider) -> None:
    """No test has left a row: nothing was committed."""
    found = provider.get_statistics()
    subscriptions = found.open_subscriptions + found.held_subscriptions
    assert sum(found.workflows.values()) + subscriptions + found.unprocessed_events == 0
    assert found.due_commands + found.execution_errors == 0
