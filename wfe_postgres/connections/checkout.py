"""Connections of an engine's pool, each leased for one call."""

import math
import os
import select
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import QueuePool

from wfe_postgres.connections.confirmation import CommitNotConfirmedError
from wfe_postgres.connections.deadlines import connecting, has_timed_out, set_timeout, was_cancelled
from wfe_postgres.connections.execution import bytes_for_text, require_ready
from wfe_postgres.connections.failures import CATCHABLE, READ_ONLY, sqlstate_of
from wfe_postgres.contract.errors import PersistenceError

_CANCELLATION = 1.0  # seconds

_MAX_CLOSED = 100
"""How many connections that the server has closed are discarded in a row before the call fails."""

_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of PostgreSQL's that sends the warning: the same in every language of the server's messages."""


class CommitMonitor:
    """A notice handler that looks for the warning that a commit's wait for a standby was cut short."""

    was_cut_short: bool = False

    def __call__(self, notice: psycopg.errors.Diagnostic) -> None:
        """See `psycopg.Connection.add_notice_handler`."""
        self.was_cut_short = self.was_cut_short or notice.source_function == _WAIT_FOR_STANDBY


def require_confirmed(connection: psycopg.Connection[Any], monitor: CommitMonitor) -> None:
    """CommitNotConfirmedError: the wait was cut short, or a cancellation was sent that may have done so."""
    if monitor.was_cut_short or has_timed_out(connection):
        raise CommitNotConfirmedError


class Lease(AbstractContextManager[Connection]):
    """A connection for a block. It goes back to its pool even if a signal handler interrupts the block.

    `begin` gives the block's transaction, in READ COMMITTED; without it each statement commits by itself. Both by
    psycopg's own switches, which cost a tenth of SQLAlchemy's. Where a listener of the application's has begun a
    transaction, the block takes place in that, with its settings. `close` gives the connection back.
    """

    _is_out = False
    _is_listening = False
    _before: tuple[bool, IsolationLevel | None] | None = None
    _transaction: AbstractContextManager[Any] | None = None

    def __init__(
        self,
        connection: Connection,
        begin: Callable[[], AbstractContextManager[Any] | None],
        close: Callable[[], None],
        transaction: bool,
    ) -> None:
        self.connection: Connection = connection
        self.driver: psycopg.Connection[Any] = driver_connection(connection)
        self.monitor: CommitMonitor = CommitMonitor()
        self._begin = begin
        self._close = close
        self._in_transaction = transaction

    def __enter__(self) -> Connection:
        self._is_out = True
        try:
            require_ready(self.driver)
            self._enter()
        except (*CATCHABLE, PersistenceError):
            self._give_back()
            raise
        return self.connection

    def _enter(self) -> None:
        is_idle = self.driver.pgconn.transaction_status == TransactionStatus.IDLE
        if is_idle:
            self._before = self.driver.autocommit, self.driver.isolation_level
            self.driver.autocommit = not self._in_transaction
            if self._in_transaction:
                self.driver.isolation_level = IsolationLevel.READ_COMMITTED
        if self._in_transaction or not is_idle:
            self._transaction = self._begin()
        self.driver.add_notice_handler(self.monitor)
        self._is_listening = True

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and sqlstate_of(error) == READ_ONLY:
            self.connection.invalidate()  # the primary has moved: the next connection may lead there
        try:
            if self._transaction:
                self._transaction.__exit__(kind, error, trace)
        except CATCHABLE:
            self._give_back()
            raise
        self._give_back()

    def _give_back(self) -> None:
        if self._is_listening:
            self.driver.remove_notice_handler(self.monitor)
        status = self.driver.pgconn.transaction_status
        if status == TransactionStatus.IDLE and not was_cancelled(self.driver):
            set_timeout(self.driver, math.inf)
            try:
                if self._before:
                    self.driver.autocommit = self._before[0]
                    if self._in_transaction:
                        self.driver.isolation_level = self._before[1]
            except CATCHABLE:
                self.connection.invalidate()
        elif not (self.connection.closed or self.connection.invalidated):
            if status == TransactionStatus.ACTIVE:  # interrupted in a statement, which would go on in the server
                with suppress(psycopg.Error):
                    self.driver.cancel_safe(timeout=_CANCELLATION)
            self.connection.invalidate()
        self._close()
        self._is_out = False

    def __del__(self) -> None:
        if self._is_out:  # a signal handler raised before `__exit__` was called, or inside it
            if not self.connection.closed:
                self.connection.invalidate()
            _renew_pool(self.connection.engine)


Open = Callable[[bool, float], Lease]
"""Leases a connection for a call that ends at a time of `monotonic()`: True, in a transaction that is committed at the
end; False, in autocommit."""


def pool_source(engine: Engine) -> Open:
    """Leases connections of an engine's pool, after a check that they are open. ValueError: it is not psycopg 3's."""
    require_psycopg(engine)
    reset_pool_after_fork(engine)
    return partial(_lease, engine)


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


def _lease(engine: Engine, transaction: bool, deadline: float) -> Lease:
    reset_pool_after_fork(engine)
    connecting.call_deadline = deadline
    try:
        for _ in range(_MAX_CLOSED):
            connection = engine.connect()
            if not _is_closed(driver_connection(connection)):
                return Lease(connection, partial(_begin, connection), connection.close, transaction)
            connection.invalidate()
            connection.close()
    except CATCHABLE:
        raise
    except TypeError as error:
        raise bytes_for_text(error) from None
    except BaseException:
        _renew_pool(engine)
        raise
    finally:
        connecting.call_deadline = math.inf
    raise psycopg.OperationalError("the pool gave only connections that the server has closed")


def _begin(connection: Connection) -> AbstractContextManager[Any]:
    return connection.get_transaction() or connection.begin()  # a listener of `engine_connect` may have begun it


def _is_closed(driver: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed an idle connection (or has sent something unasked, which ends in the same).

    One system call without waiting, so a connection that died in the pool costs no failed call.
    """
    if driver.closed:
        return True
    if not hasattr(select, "poll"):  # eventlet removes it
        return bool(select.select([driver.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _renew_pool(engine: Engine) -> None:
    """Replace the pool after a signal handler's exception interrupted a checkout or a return.

    An interrupted pool counts that connection as checked out for good, and would run out of connections.
    """
    if isinstance(engine.pool, QueuePool):
        engine.dispose()


# A pool belongs to the process that filled it: a child process gets a pool of its own ---------------------

_owners: weakref.WeakKeyDictionary[Engine, int] = weakref.WeakKeyDictionary()
"""The process id under which each engine's pool was filled."""

_owners_lock = threading.Lock()


def reset_pool_after_fork(engine: Engine) -> None:
    """Replace the engine's pool if it was inherited from a parent process, whose connections stay open.

    To be called before a connection is taken: a fork made by C code, as uWSGI's, runs none of Python's hooks.
    """
    pid = os.getpid()
    if _owners.get(engine) == pid:
        return
    with _owners_lock:
        if _owners.setdefault(engine, pid) != pid:
            engine.dispose(close=False)
            _owners[engine] = pid


def _reset_all() -> None:
    global _owners_lock
    _owners_lock = threading.Lock()  # a thread of the parent may have held it
    for engine in list(_owners):
        reset_pool_after_fork(engine)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
