"""A statement that commits by itself, sent by psycopg alone on a connection that is taken from the pool directly.

SQLAlchemy's `Connection`, its result, and the pool's proxy cost as much client time as psycopg does: with them a load
of one pointer takes 1.5 times as long. They serve those who listen (`echo`, events of the engine, dialect and pool,
OpenTelemetry). Each call asks whether anybody does, and then goes through them. The pool stays the one place where
connections are: its limits, its counts and its recycling hold for these as for all others.
"""

import math
import time
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty

from wfe_postgres.connections.deadlines import BoundedConnection, set_timeout, was_cancelled
from wfe_postgres.connections.execution import (
    CommitMonitor,
    Parameters,
    PlainCursor,
    Rows,
    are_small,
    is_closed,
    require_ready,
    run_by_cursor,
)
from wfe_postgres.connections.failures import CATCHABLE, READ_ONLY, sqlstate_of
from wfe_postgres.connections.lease import stop_statement
from wfe_postgres.connections.pools import renew_pool
from wfe_postgres.contract.errors import PersistenceError

_CURSOR = "wfe_postgres cursor"
"""Under this name an entry of the pool keeps its cursor. A new one has to look up loaders and dumpers again."""

_PLAIN_CONNECTIONS = (BoundedConnection, psycopg.Connection)


def is_heard(engine: Any) -> bool:
    """Whether somebody listens to statements or to the pool, or has replaced a part of SQLAlchemy or psycopg.

    The flags are not documented; where SQLAlchemy has them no more, the answer is yes.
    """
    pool = engine.pool
    return bool(
        getattr(engine, "_has_events", True)
        or getattr(engine.dialect, "_has_events", True)
        or type(engine.dialect) is not PGDialect_psycopg
        or type(pool) is not QueuePool
        or getattr(pool, "_pre_ping", True)
        or pool.dispatch.checkout
        or pool.dispatch.reset
        or engine._should_log_info()
        or pool._should_log_debug()
    )


def lease_leanly(engine: Engine) -> "LeanLease | None":
    """A connection that is ready in the pool. `None`: there is none, or it has to be taken in the ordinary way."""
    if is_heard(engine):
        return None
    try:
        lease = LeanLease(engine, engine.pool._pool.get(block=False))  # type: ignore[attr-defined]
    except Empty:
        return None
    except BaseException:  # of a signal handler
        renew_pool(engine)
        raise
    if lease.is_ready:
        return lease
    lease.release()
    return None


class LeanLease:
    """As `Lease` in autocommit, and with its promises."""

    _is_out: bool = False

    def __init__(self, engine: Engine, entry: ConnectionPoolEntry) -> None:
        self.driver: psycopg.Connection[Any] = entry.dbapi_connection  # type: ignore[assignment]
        self.monitor: CommitMonitor = CommitMonitor()
        self._engine = engine
        self._pool: Any = engine.pool
        self._connection_record: Any = entry  # under this name SQLAlchemy's pool looks for it
        self._was_autocommit = True
        self._is_out = True

    @property
    def is_ready(self) -> bool:
        """Whether the connection is open, idle, not to be replaced by the pool, and one that nobody has wrapped."""
        entry, pool, driver = self._connection_record, self._pool, self.driver
        is_plain = type(driver) in _PLAIN_CONNECTIONS and driver.cursor_factory is psycopg.Cursor
        outdated = time.time() - pool._recycle if pool._recycle > -1 else 0.0
        oldest = max(pool._invalidate_time, entry._soft_invalidate_time, outdated)
        is_idle = is_plain and driver.pgconn.transaction_status == TransactionStatus.IDLE
        return is_idle and entry.starttime >= oldest and not is_closed(driver)

    def __enter__(self) -> "LeanLease":
        self.driver.add_notice_handler(self.monitor)
        try:
            require_ready(self.driver)
            self._was_autocommit = self.driver.autocommit
            if not self._was_autocommit:
                self.driver.set_autocommit(True)
        except (*CATCHABLE, PersistenceError):
            self.__exit__()
            raise
        return self

    def execute(self, schema: str, statement: Executable, parameters: Parameters) -> Rows:
        """Run the statement in this schema."""
        kept = self._connection_record.info
        cursor = kept.pop(_CURSOR, None) or PlainCursor(self.driver)
        rows = run_by_cursor(cursor, schema, statement, parameters)
        if are_small(parameters):
            kept[_CURSOR] = cursor
        return rows

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        entry, driver = self._connection_record, self.driver
        driver.remove_notice_handler(self.monitor)
        is_idle = driver.pgconn.transaction_status == TransactionStatus.IDLE and not was_cancelled(driver)
        if is_idle and (error is None or sqlstate_of(error) != READ_ONLY):
            set_timeout(driver, math.inf)
            try:
                if not self._was_autocommit:
                    driver.set_autocommit(False)
            except CATCHABLE as failure:
                entry.invalidate(failure)
        else:
            stop_statement(driver)
            if driver.closed:  # as SQLAlchemy does: the pool's other connections may be lost, too
                self._pool._invalidate(self, error, _checkin=False)
            entry.invalidate(error)
        entry.checkin(_fairy_was_created=False)
        self._is_out = False

    def release(self) -> None:
        """Give the connection back to the pool as it is."""
        self._connection_record.checkin(_fairy_was_created=False)
        self._is_out = False

    def __del__(self) -> None:
        if self._is_out:  # a signal handler raised before `__exit__` was called, or inside it
            self._connection_record.invalidate()
            renew_pool(self._engine)
