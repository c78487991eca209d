"""psycopg's pipeline mode: statements have no result until later, so every call is refused before it is sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from tests.protocol.calls import ALL, Prepare
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.connections.checkout import driver_connection
from wfe_postgres.testing.conformance.support import event, has_event

Provider = PostgresPersistenceProvider

ON_ITS_OWN = "ensure_store_exists"
"""Works on connections of its own."""
CALLS = {name: it.prepare for name, it in ALL.items() if it.statements and name != ON_ITS_OWN}


@contextmanager
def in_driver(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A psycopg connection."""
    with psycopg.connect(url) as connection:
        yield connection, connection
        connection.rollback()


@contextmanager
def in_connection(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A SQLAlchemy connection."""
    with engine.connect() as connection:
        yield connection, driver_connection(connection)


@contextmanager
def in_session(engine: Engine, url: str) -> Iterator[tuple[Any, psycopg.Connection[Any]]]:
    """A session."""
    with Session(engine) as session:
        connection: Connection = session.connection()
        yield session, driver_connection(connection)


WAYS_IN = [in_driver, in_connection, in_session]


@pytest.mark.parametrize("prepare", CALLS.values(), ids=CALLS)
def test_every_call_is_refused(provider: Provider, database_url: str, prepare: Prepare) -> None:
    """With a sentence that says what to do; nothing is written, and the connection works on."""
    with psycopg.connect(database_url) as connection:
        call = prepare(provider.using(connection))
        with connection.pipeline(), pytest.raises(PersistenceError, match="pipeline"):
            call()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.rollback()


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_however_the_connection_came_in(
    provider: Provider, app_engine: Engine, database_url: str, way_in: Callable[..., Any]
) -> None:
    """Calls and savepoints; before and after the pipeline the calls work."""
    with way_in(app_engine, database_url) as (session_or_connection, driver):
        tx = provider.using(session_or_connection)
        tx.create_event(event(id="before"))
        with driver.pipeline():
            with pytest.raises(PersistenceError, match="pipeline"):
                tx.create_event(event(id="inside"))
            with pytest.raises(PersistenceError, match="pipeline"), tx.transaction():
                pytest.fail("there is no savepoint")
        tx.create_event(event(id="after"))
        session_or_connection.commit()
    assert [has_event(provider, id) for id in ("before", "inside", "after")] == [True, False, True]
