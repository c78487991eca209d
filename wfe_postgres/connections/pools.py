"""An engine's pool: whose connections it has, and how it is renewed."""

from typing import Any

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import QueuePool


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection under SQLAlchemy's."""
    found: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def require_psycopg(engine: Engine, *, joined: bool = False) -> None:
    """ValueError: the engine uses another driver than psycopg 3, is none, or is asynchronous and not `joined`."""
    if not isinstance(engine, Engine):
        raise ValueError(f"an engine of postgresql+psycopg (psycopg 3) is needed, not {type(engine).__name__}")
    driver = f"{engine.dialect.name}+{engine.dialect.driver}"
    if driver != "postgresql+psycopg" or (engine.dialect.is_async and not joined):
        kind = "an asynchronous engine" if engine.dialect.is_async else driver
        raise ValueError(f"the engine must be postgresql+psycopg (psycopg 3), not {kind}")


def renew_pool(engine: Engine) -> None:
    """Replace the pool after a signal handler's exception interrupted a checkout or a return.

    An interrupted pool counts that connection as checked out for good, and would run out of connections.
    """
    if isinstance(engine.pool, QueuePool):
        engine.dispose()
