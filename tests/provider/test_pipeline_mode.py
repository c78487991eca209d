"""psycopg's pipeline mode: results are not available at once, so every call is rejected before it is sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from tests.protocol.calls import ALL, Prepare
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.connections.pools import driver_connection
from wfe_postgres.testing.conformance.support import event, has_event

Provider = PostgresPersistenceProvider

OWN_CONNECTIONS = "ensure_store_exists"
"""Opens its own connections."""
CALLS = {name: it.prepare for name, it in ALL.items() if it.statements and name != OWN_CONNECTIONS}


@contextmanager
def psycopg_connection(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A psycopg connection."""
    with psycopg.connect(url) as connection:
        yield connection, connection
        connection.rollback()


@contextmanager
def sqlalchemy_connection(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A SQLAlchemy connection."""
    with engine.connect() as connection:
        yield connection, driver_connection(connection)


@contextmanager
def orm_session(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A Session."""
    with Session(engine) as session:
        connection: Connection = session.connection()
        yield session, driver_connection(connection)


KINDS = [psycopg_connection, sqlalchemy_connection, orm_session]


@pytest.mark.parametrize("prepare", CALLS.values(), ids=CALLS)
def test_every_call_is_rejected_in_pipeline_mode(provider: Provider, database_url: str, prepare: Prepare) -> None:
    """PersistenceError with a message about the pipeline; nothing is sent, and the connection remains usable."""
    with psycopg.connect(database_url) as connection:
        call = prepare(provider.using(connection))
        with connection.pipeline(), pytest.raises(PersistenceError, match="pipeline"):
            call()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.rollback()


@pytest.mark.parametrize("open_kind", KINDS)
def test_calls_and_savepoints_are_rejected_in_pipeline_mode(
    provider: Provider, app_engine: Engine, database_url: str, open_kind: Callable[..., Any]
) -> None:
    """For each kind of session and connection; calls before and after the pipeline succeed."""
    with open_kind(app_engine, database_url) as (session_or_connection, driver):
        tx = provider.using(session_or_connection)
        tx.create_event(event(id="before"))
        with driver.pipeline():
            with pytest.raises(PersistenceError, match="pipeline"):
                tx.create_event(event(id="inside"))
            with pytest.raises(PersistenceError, match="pipeline"), tx.transaction():
                pytest.fail("the block was entered")
        tx.create_event(event(id="after"))
        session_or_connection.commit()
    assert [has_event(provider, id) for id in ("before", "inside", "after")] == [True, False, True]
