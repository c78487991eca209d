"""The conformance suite on PostgreSQL: in another schema, with unusual defaults, and in caller-owned transactions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import ClassVar
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
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

SessionOrConnection = Session | Connection | psycopg.Connection

HOSTILE_DEFAULTS = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German",
    "default_transaction_isolation": "serializable",
    "search_path": "pg_catalog",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "lc_numeric": "C",
    "synchronous_commit": "off",
}


@contextmanager
def database(server: str, template: str, defaults: dict[str, str], options: str = "") -> Iterator[str]:
    """The URL of a new database with these settings as defaults for every connection, made with these options."""
    name = sql.Identifier(f"wfe_{uuid4().hex}")
    with psycopg.connect(server, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ").format(name, sql.Identifier(template))
        connection.execute(create.as_bytes(connection) + options.encode())
        for setting, value in defaults.items():
            change = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(change.format(name, sql.Identifier(setting), sql.Literal(value)))
        try:
            yield make_url(server).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


class Configuration(Conformance):
    """The database settings of a test class."""

    schema: ClassVar[str] = SCHEMA
    defaults: ClassVar[dict[str, str]] = {}


@pytest.fixture(scope="class")
def store(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider on a database that all tests of the class share."""
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
    """Each call runs in its own transaction."""

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
    """With default settings."""


class TestInAnotherSchema(EachCall, SequentialConformance):
    """In a schema with another name; a second store in the default schema must stay empty."""

    schema = "another_schema"


class TestUnderHostileDefaults(EachCall, SequentialConformance, RaceConformance, LeaseConformance):
    """In a database with unusual defaults for time zone, date style, isolation level and others."""

    defaults = HOSTILE_DEFAULTS


class Inside(Configuration, SequentialConformance):
    """The single-threaded tests, in a caller-owned transaction that is rolled back after each test."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[SessionOrConnection]:
        """The caller's session or connection, closed at the end."""
        raise NotImplementedError

    @pytest.fixture
    def provider(
        self, session_or_connection: SessionOrConnection, joined: PostgresPersistenceProvider
    ) -> Iterator[PersistenceProvider]:
        yield joined
        session_or_connection.rollback()


@pytest.fixture(scope="class")
def session_or_connection(
    request: pytest.FixtureRequest, store: PostgresPersistenceProvider
) -> Iterator[SessionOrConnection]:
    """The caller's session or connection. After all tests of the class, nothing may have been committed."""
    with request.cls.connect(store) as session_or_connection:
        yield session_or_connection
    check_empty(store)


@pytest.fixture(scope="class")
def joined(store: PostgresPersistenceProvider, session_or_connection: SessionOrConnection) -> PostgresRepositories:
    """The provider, joined to the caller's transactions."""
    return store.using(session_or_connection)


class TestInsideASession(Inside):
    """In a SQLAlchemy session."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[SessionOrConnection]:
        return Session(store.engine)


class TestInsideAConnection(Inside):
    """In a transaction of a SQLAlchemy connection, at isolation level SERIALIZABLE."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[SessionOrConnection]:
        return store.engine.connect().execution_options(isolation_level="SERIALIZABLE")


class TestInsideAPsycopgConnection(Inside):
    """In a psycopg connection with cursors of the client, as used by Django, and with rows that are no tuples."""

    @staticmethod
    def connect(store: PostgresPersistenceProvider) -> AbstractContextManager[SessionOrConnection]:
        url = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor, prepare_threshold=0)


def delete_all(provider: PostgresPersistenceProvider, schema: str) -> None:
    """Delete all rows; for few rows this is much faster than TRUNCATE."""
    statements = [f"DELETE FROM {schema}.{table.name}" for table in reversed(Base.metadata.sorted_tables)]
    with provider.engine.begin() as connection:
        connection.exec_driver_sql("; ".join(statements))


def check_empty(provider: PostgresPersistenceProvider) -> None:
    """Check that the store has no rows."""
    found = provider.get_statistics()
    subscriptions = found.open_subscriptions + found.held_subscriptions
    assert sum(found.workflows.values()) + subscriptions + found.unprocessed_events == 0
    assert found.due_commands + found.execution_errors == 0
