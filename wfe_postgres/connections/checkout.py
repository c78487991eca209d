"""Connections of an engine's pool, or of a sessionmaker's sessions, each leased for one call."""

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

from wfe_postgres.connections.confirmation import CommitMonitor
from wfe_postgres.connections.deadlines import set_timeout, was_cancelled
from wfe_postgres.connections.failures import CATCHABLE
from wfe_postgres.connections.forks import reset_pool_after_fork
from wfe_postgres.connections.sockets import driver_connection, is_closed
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.orm import WorkflowRow

_CANCELLATION = 1.0  # seconds

_MAX_CLOSED = 100
"""How many connections that the server has closed are discarded in a row before the call fails."""

BIND_ARGUMENTS = {"mapper": WorkflowRow}
"""What a session that has several binds is asked with."""


class Lease(AbstractContextManager[Connection]):
    """A connection for a block. It is returned to its pool even if a signal handler interrupts the block."""

    _is_out = False

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self.driver: psycopg.Connection[Any] = driver_connection(connection)
        self._monitor = CommitMonitor(self.driver)

    def __enter__(self) -> Connection:
        self._is_out = True
        try:
            require_no_pipeline(self.driver)
            self._begin()
            self._monitor.__enter__()
        except (*CATCHABLE, PersistenceError):
            self._give_back()
            raise
        return self.connection

    def __exit__(self, *raised: Any) -> None:
        try:
            self._end(*raised)
        except CATCHABLE:
            self._give_back()
            raise
        self._give_back()

    def require_confirmed(self) -> None:
        """See `CommitMonitor`."""
        self._monitor.require_confirmed()

    def _give_back(self) -> None:
        self._monitor.__exit__()
        if self._is_reusable():
            set_timeout(self.driver, math.inf)
        elif not (self.connection.closed or self.connection.invalidated):
            self.connection.invalidate()
        self._close()
        self._is_out = False

    def _is_reusable(self) -> bool:
        idle = self.driver.pgconn.transaction_status == TransactionStatus.IDLE
        return idle and not was_cancelled(self.driver)

    def __del__(self) -> None:
        if self._is_out:  # a signal handler raised before `__exit__` was called, or inside it
            if not self.connection.closed:
                self.connection.invalidate()
            renew_pool(self.connection.engine)

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _end(self, *raised: Any) -> None: ...

    def _close(self) -> None:
        self.connection.close()


Open = Callable[[bool], Lease]
"""Leases a connection for one call: True, in a transaction that is committed at the end; False, in autocommit."""


class _TransactionLease(Lease):
    """In a transaction, which is committed at the end of the block, or rolled back."""

    def _begin(self) -> None:
        # The level is set on the connection: on an engine that has such an option already, another has no effect.
        self._transaction = self.connection.execution_options(isolation_level="READ COMMITTED").begin()

    def _end(self, *raised: Any) -> None:
        self._transaction.__exit__(*raised)


class _AutocommitLease(Lease):
    """Each statement commits by itself; by psycopg's switch, which costs a tenth of SQLAlchemy's."""

    def _begin(self) -> None:
        self._autocommit_before = self.driver.autocommit
        self.driver.autocommit = True

    def _end(self, *_: Any) -> None:
        if self.driver.closed:
            return
        set_timeout(self.driver, math.inf)  # nothing is sent from here on
        try:
            self.driver.autocommit = self._autocommit_before
        except psycopg.Error:  # interrupted in a statement, which would go on in the server
            with suppress(psycopg.Error):
                self.driver.cancel_safe(timeout=_CANCELLATION)
            self.connection.invalidate()


class _SessionLease(Lease):
    """The connection of a new session, which commits at the end of the block, or rolls back."""

    def __init__(self, session: Session, transaction: bool) -> None:
        self._session = session
        level = "READ COMMITTED" if transaction else "AUTOCOMMIT"
        options = {"isolation_level": level}
        try:
            super().__init__(session.connection(bind_arguments=BIND_ARGUMENTS, execution_options=options))
        except CATCHABLE:
            session.close()
            raise

    def _begin(self) -> None: ...

    def _end(self, kind: Any = None, *_: Any) -> None:
        if kind is None:
            self._session.commit()

    def _close(self) -> None:
        self._session.close()


def pool_source(engine: Engine) -> Open:
    """Leases connections of an engine's pool, after a check that they are open. ValueError: it is not psycopg 3's."""
    require_psycopg(engine)
    reset_pool_after_fork(engine)
    return lambda transaction: (_TransactionLease if transaction else _AutocommitLease)(_live(engine))


def session_source(make: sessionmaker[Any]) -> Open:
    """Leases connections of new sessions, one per call. ValueError, at the first call: they are not psycopg 3's."""

    def opened(transaction: bool) -> Lease:
        session = make()
        require_psycopg(session.get_bind(mapper=WorkflowRow).engine)
        return _SessionLease(session, transaction)

    return opened


def _live(engine: Engine) -> Connection:
    reset_pool_after_fork(engine)
    try:
        for _ in range(_MAX_CLOSED):
            connection = engine.connect()
            if not is_closed(connection):
                return connection
            connection.invalidate()
            connection.close()
    except CATCHABLE:
        raise
    except BaseException:
        renew_pool(engine)
        raise
    raise psycopg.OperationalError("the pool gave only connections that the server has closed")


def renew_pool(engine: Engine) -> None:
    """Replace the pool after a signal handler's exception interrupted a checkout or a return.

    An interrupted pool counts that connection as checked out for good, and would run out of connections.
    """
    if isinstance(engine.pool, QueuePool):
        engine.dispose()


def require_no_pipeline(connection: psycopg.Connection[Any]) -> None:
    """PersistenceError: the connection is in pipeline mode, in which a statement has no result until later."""
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise PersistenceError("the connection is in pipeline mode: leave the block of Connection.pipeline() first")


def require_psycopg(engine: Engine) -> None:
    """ValueError: the engine uses another driver than psycopg 3, or is none."""
    if not isinstance(engine, Engine):
        raise ValueError(f"an engine of postgresql+psycopg (psycopg 3) is needed, not {type(engine).__name__}")
    if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
        driver = f"{engine.dialect.name}+{engine.dialect.driver}"
        raise ValueError(f"the engine must be postgresql+psycopg (psycopg 3), not {driver}")
