"""From what a caller hands in - an engine, a session, a connection - to a SQLAlchemy connection to work on."""

from abc import abstractmethod
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
from sqlalchemy.pool import QueuePool, StaticPool

from wfe_postgres.sessions.failures import CATCHABLE
from wfe_postgres.sessions.sockets import driver_connection, is_closed

_CANCELLATION = 1.0  # seconds

Place = Session | scoped_session[Any] | Connection | psycopg.Connection[Any]
"""A caller's own transaction."""


Open = Callable[[bool], AbstractContextManager[Connection]]
"""Gives a connection for one call: True, in a transaction that is committed at the end; False, in autocommit."""


def engine_source(engine: Engine) -> Open:
    """Connections of an engine's pool that were alive a moment ago."""
    require_psycopg(engine)
    return lambda transaction: (_InTransaction if transaction else _Autocommitting)(_live(engine))


def _live(engine: Engine) -> Connection:
    try:
        while is_closed(connection := engine.connect()):
            connection.invalidate()
            connection.close()
    except CATCHABLE:
        raise
    except BaseException:
        _recount(engine)
        raise
    return connection


def _recount(engine: Engine) -> None:
    """Begin with a new pool, after an exception from outside - a signal handler's, say - while it gave or took.

    A pool that is interrupted there counts that connection as lent for ever, and one day has none left to lend.
    """
    if isinstance(engine.pool, QueuePool):
        engine.dispose()


class _Lent(AbstractContextManager[Connection]):
    """A connection of the pool's for a block, given back whatever comes between."""

    _is_out = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        self._is_out = True
        try:
            self._begin()
        except CATCHABLE:
            self._give_back()
            raise
        return self._connection

    def __exit__(self, *raised: Any) -> None:
        try:
            self._end(*raised)
        except CATCHABLE:
            self._give_back()
            raise
        self._give_back()

    def _give_back(self) -> None:
        self._connection.close()
        self._is_out = False

    def __del__(self) -> None:
        if self._is_out:  # an exception from outside came before `__exit__` or into it
            if not self._connection.closed:
                self._connection.invalidate()
            _recount(self._connection.engine)

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _end(self, *raised: Any) -> None: ...


class _InTransaction(_Lent):
    """In a transaction, which is committed at the end of the block, or rolled back."""

    def _begin(self) -> None:
        # The level is set on the connection: on an engine that has such an option already, another has no effect.
        self._transaction = self._connection.execution_options(isolation_level="READ COMMITTED").begin()

    def _end(self, *raised: Any) -> None:
        self._transaction.__exit__(*raised)


class _Autocommitting(_Lent):
    """One that commits each statement; by psycopg's switch, which costs a tenth of SQLAlchemy's."""

    def _begin(self) -> None:
        self._driver = driver_connection(self._connection)
        self._before = self._driver.autocommit
        self._driver.autocommit = True

    def _end(self, *_: Any) -> None:
        if self._driver.closed:
            return
        try:
            self._driver.autocommit = self._before
        except psycopg.Error:  # it was interrupted in a statement, which would go on in the server
            with suppress(psycopg.Error):
                self._driver.cancel_safe(timeout=_CANCELLATION)
            self._connection.invalidate()


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
