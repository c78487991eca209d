"""A connection of a pool for one call, in a transaction or in autocommit."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Executable

from wfe_postgres.connections.deadlines import set_timeout, was_cancelled
from wfe_postgres.connections.execution import CommitMonitor, Parameters, Rows, require_ready, run_by_sqlalchemy
from wfe_postgres.connections.failures import CATCHABLE, READ_ONLY, sqlstate_of
from wfe_postgres.connections.pools import driver_connection, renew_pool
from wfe_postgres.contract.errors import PersistenceError

_CANCELLATION = 1.0  # seconds


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

    def execute(self, schema: str, statement: Executable, parameters: Parameters) -> Rows:
        """Run the statement in this schema."""
        return run_by_sqlalchemy(self.connection, schema, statement, parameters)

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
            stop_statement(self.driver)
            self.connection.invalidate()
        self._close()
        self._is_out = False

    def __del__(self) -> None:
        if self._is_out:  # a signal handler raised before `__exit__` was called, or inside it
            if not self.connection.closed:
                self.connection.invalidate()
            renew_pool(self.connection.engine)


def stop_statement(driver: psycopg.Connection[Any]) -> None:
    """Cancel the statement that an exception has interrupted: it would go on in the server."""
    if driver.pgconn.transaction_status == TransactionStatus.ACTIVE:
        with suppress(psycopg.Error):
            driver.cancel_safe(timeout=_CANCELLATION)
