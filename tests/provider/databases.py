"""Helpers: migrated databases, the contents of the tables, and the statements that an engine executes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, event, make_url

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import TIMEOUT

OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'wfe_postgres'"
"""Selects the backends of providers that created their own engine."""


@contextmanager
def migrated_database(server: str, template: str) -> Iterator[str]:
    """The URL of a copy of the template database, which is dropped when the block ends."""
    name = f"wfe_{uuid4().hex}"
    database = sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(database, sql.Identifier(template))
        )
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    """The statements executed on connections of the engine's pool within the block."""

    seen: list[str] = []

    def record(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if connection.engine.pool is engine.pool:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def contents(url: str, schema: str = "wfc") -> dict[str, list[str]]:
    """All rows of the seven tables as text, each with its ctid, so that a rewritten row compares unequal."""
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for table in Base.metadata.sorted_tables:
            query = sql.SQL("SELECT ctid::text || t::text FROM {} AS t ORDER BY 1")
            rows = connection.execute(query.format(sql.Identifier(schema, table.name))).fetchall()
            found[table.name] = [row for (row,) in rows]
    return found


def open_transactions(connection: psycopg.Connection[Any], timeout: float = 5.0) -> list[str]:
    """The last statements of sessions in the database that are still idle in a transaction after the timeout."""
    query = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'"
    deadline = time.monotonic() + timeout
    while (found := connection.execute(query).fetchall()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [str(query) for (query,) in found]


@contextmanager
def nothing_sent(provider: PostgresPersistenceProvider, url: str) -> Iterator[None]:
    """Assert that the block sends no statement and that the tables are unchanged, including the ctid of each row."""
    before = contents(url)
    with statements_of(provider.engine) as sent:
        yield
    assert sent == []
    assert contents(url) == before


def wait_until(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Wait until the condition is true, and fail after so many seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {timeout} seconds"
        time.sleep(0.005)
