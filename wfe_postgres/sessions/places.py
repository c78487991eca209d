"""From what a caller hands in - an engine, a session, a connection - to a SQLAlchemy connection to work on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.rows import tuple_row
from psycopg.types.numeric import IntDumper, IntLoader
from psycopg.types.string import StrDumper, TextLoader
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from wfe_postgres.sessions.sockets import driver_connection, is_closed

_CANCELLATION = 1.0  # seconds

Place = Session | scoped_session[Any] | Connection | psycopg.Connection[Any]
"""A caller's own transaction."""


Open = Callable[[bool], AbstractContextManager[Connection]]
"""Gives a connection for one call: True, in a transaction that is committed at the end; False, in autocommit."""


def engine_source(engine: Engine) -> Open:
    """Connections of an engine's pool that were alive a moment ago."""
    require_psycopg(engine)
    return lambda transaction: _begun(_live(engine)) if transaction else _Autocommitting(_live(engine))


def _live(engine: Engine) -> Connection:
    while is_closed(connection := engine.connect()):
        connection.invalidate()
        connection.close()
    return connection


@contextmanager
def _begun(connection: Connection) -> Iterator[Connection]:
    # The level is set on the connection: on an engine that has such an option already, another has no effect.
    with connection.execution_options(isolation_level="READ COMMITTED"), connection.begin():
        yield connection


class _Autocommitting(AbstractContextManager[Connection]):
    """A connection that commits each statement; by psycopg's switch, which costs a tenth of SQLAlchemy's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver = driver_connection(connection)
        self._before = self._driver.autocommit

    def __enter__(self) -> Connection:
        self._driver.autocommit = True
        return self._connection

    def __exit__(self, *_: object) -> None:
        if not self._driver.closed:
            try:
                self._driver.autocommit = self._before
            except psycopg.Error:  # it was interrupted in a statement, which would go on in the server
                with suppress(psycopg.Error):
                    self._driver.cancel_safe(timeout=_CANCELLATION)
                self._connection.invalidate()
        self._connection.close()


def maker_source(make: sessionmaker[Any]) -> Open:
    """Connections of new sessions, one for each call."""

    @contextmanager
    def opened(transaction: bool) -> Iterator[Connection]:
        level = "READ COMMITTED" if transaction else "AUTOCOMMIT"
        with make.begin() as session:
            require_psycopg(session.get_bind().engine)
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
    require_psycopg(place.get_bind().engine)
    return place.connection()


def require_psycopg(engine: Engine) -> None:
    """ValueError: the engine speaks through another driver than psycopg 3, or is none."""
    if not isinstance(engine, Engine):
        raise ValueError(f"an engine of postgresql+psycopg (psycopg 3) is needed, not {type(engine).__name__}")
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


class _PlainCursor(psycopg.Cursor[Any]):
    """A cursor with psycopg's own dumpers and loaders, whatever its connection has."""

    @property
    def adapters(self) -> AdaptersMap:
        return _PLAIN


_PLAIN = AdaptersMap(psycopg.adapters)
_PLAIN.register_loader("text", TextLoader)
_PLAIN.register_loader("int8", IntLoader)
_PLAIN.register_dumper(str, StrDumper)
_PLAIN.register_dumper(int, IntDumper)


class _Borrowed:
    """Somebody else's psycopg connection: neither committed, rolled back nor closed, and its cursors are plain.

    The caller's connection may have row factories, cursor classes, loaders and dumpers of its own (Django's
    has); ours have none of them.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self, *_: object, **__: object) -> psycopg.Cursor[Any]:
        return _PlainCursor(self._connection, row_factory=tuple_row)

    def commit(self) -> None:
        """The caller's affair."""

    def rollback(self) -> None:
        """The caller's affair."""

    def close(self) -> None:
        """The caller's affair."""
