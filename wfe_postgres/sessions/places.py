"""From what a caller hands in - an engine, a session, a connection - to a SQLAlchemy connection to work on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from psycopg.types.numeric import IntDumper, IntLoader
from psycopg.types.string import StrDumper, TextLoader
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

Place = Session | scoped_session[Any] | Connection | psycopg.Connection[Any]
"""A caller's own transaction."""


Open = Callable[[bool], AbstractContextManager[Connection]]
"""Gives a connection for one call: True, in a transaction that is committed at the end; False, in autocommit."""


def engine_source(engine: Engine) -> Open:
    """Connections of an engine's pool."""
    require_psycopg(engine)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    transactional = engine.execution_options(isolation_level="READ COMMITTED")
    return lambda transaction: transactional.begin() if transaction else autocommit.connect()


def maker_source(make: sessionmaker[Any]) -> Open:
    """Connections of new sessions, one for each call."""

    @contextmanager
    def opened(transaction: bool) -> Iterator[Connection]:
        level = "READ COMMITTED" if transaction else "AUTOCOMMIT"
        with make.begin() as session:
            yield session.connection(execution_options={"isolation_level": level})

    return opened


def joined_source(place: Place) -> Callable[[], Connection]:
    """The connection of the caller's transaction, looked up anew for every call.

    ValueError: the place is none that is known, or belongs to another driver.
    """
    if isinstance(place, (Session, scoped_session)):
        return lambda: _connection_of(place)
    if isinstance(place, Connection):
        require_psycopg(place.engine)
        return lambda: place
    if isinstance(place, psycopg.Connection):
        return _borrowing_engine(place).connect
    raise ValueError(
        "a Session, a scoped_session, a SQLAlchemy Connection or a psycopg 3 Connection is needed, "
        f"not {type(place).__name__}"
    )


def _connection_of(place: Session | scoped_session[Any]) -> Connection:
    connection = place.connection()
    require_psycopg(connection.engine)
    return connection


def require_psycopg(engine: Engine) -> None:
    """ValueError: the engine speaks through another driver than psycopg 3."""
    if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
        spoken = f"{engine.dialect.name}+{engine.dialect.driver}"
        raise ValueError(f"the engine must be postgresql+psycopg (psycopg 3), not {spoken}")


def _borrowing_engine(connection: psycopg.Connection[Any]) -> Engine:
    """An engine whose only connection is the caller's.

    Not made by `create_engine`: that would set up the connection on first use, and roll it back.
    """
    borrowed = _Borrowed(connection)
    template = create_engine("postgresql+psycopg://")
    pool = StaticPool(lambda: borrowed, reset_on_return=None, dialect=template.dialect)  # type: ignore[arg-type]
    return Engine(pool, template.dialect, template.url)


class _Borrowed:
    """Somebody else's psycopg connection: neither committed, rolled back nor closed, and its cursors are plain.

    The caller's connection may have row factories, cursor classes, loaders and dumpers of its own (Django's
    has); ours are set on our cursors alone.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self, *_: object, **__: object) -> psycopg.Cursor[Any]:
        cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
        cursor.adapters.register_loader("text", TextLoader)
        cursor.adapters.register_loader("int8", IntLoader)
        cursor.adapters.register_dumper(str, StrDumper)
        cursor.adapters.register_dumper(int, IntDumper)
        return cursor

    def commit(self) -> None:
        """The caller's affair."""

    def rollback(self) -> None:
        """The caller's affair."""

    def close(self) -> None:
        """The caller's affair."""
