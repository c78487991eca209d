"""How a repository's statements reach the database: in transactions of their own, or inside the caller's."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Executable

from wfe_postgres.connections.deadlines import has_timed_out, set_timeout
from wfe_postgres.connections.execution import (
    CommitMonitor,
    Execute,
    Parameters,
    Rows,
    require_confirmed,
    require_ready,
)
from wfe_postgres.connections.failures import CATCHABLE, Failure, Kind, classify
from wfe_postgres.connections.joined import SessionOrConnection, join
from wfe_postgres.contract.errors import OutcomeUnknownError, PersistenceError, WfeError

_T = TypeVar("_T")

Attempt = Callable[[Execute, bool], _T]
"""One try at a write. True: an earlier try was cut off and may have committed, so look first."""


class StatementRunner(Protocol):
    """What a repository works through."""

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        """The rows of a statement that changes nothing: one statement, one snapshot."""

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        """A write whose statements each commit by themselves; `ids` name what is written, for an error."""

    def transact(self, attempt: Attempt[_T], *ids: str) -> _T:
        """A write of several statements in one READ COMMITTED transaction."""

    def transaction(self) -> AbstractContextManager["JoinedRunner"]:
        """Several calls in one transaction, committed at the end of the block."""


class JoinedRunner:
    """Inside the caller's transaction, which is never committed, rolled back or retried here.

    ValueError: see `join`.
    """

    def __init__(self, session_or_connection: SessionOrConnection, schema: str, timeout: float = math.inf) -> None:
        self._transaction = join(session_or_connection)
        self._schema = schema
        self._timeout = timeout

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        return self._run(lambda execute, _: execute(statement, parameters), None)

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        result = self._run(attempt, ids)
        self._transaction.after_write()
        return result

    transact = write

    @contextmanager
    def transaction(self) -> Iterator["JoinedRunner"]:
        """See `StatementRunner`: a savepoint of the caller's transaction."""
        self._transaction.flush()
        try:
            driver = self._begin()
            savepoint = self._transaction.savepoint()
        except CATCHABLE as error:
            failure = classify(error, schema=self._schema)
        else:
            with ended(savepoint, driver, self._timeout, attrgetter("error")):
                yield self
                self._transaction.flush()
            return
        raise failure.error

    def _run(self, attempt: Attempt[_T], ids: tuple[str, ...] | None) -> _T:
        """The attempt's result. `ids`: `None` for a read."""
        self._transaction.flush()
        driver: psycopg.Connection[Any] | None = None
        commits_itself = False
        monitor = CommitMonitor()
        try:
            driver = self._begin()
            is_idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
            commits_itself = ids is not None and driver.autocommit and is_idle
            driver.add_notice_handler(monitor)
            try:
                result = attempt(self._transaction.executor(self._schema), False)
            finally:
                driver.remove_notice_handler(monitor)
            require_confirmed(driver, monitor)
            return result
        except CATCHABLE as error:
            cancelled = driver is not None and has_timed_out(driver)
            failure = classify(error, timed_out=cancelled, schema=self._schema)
        in_doubt = failure.kind is Kind.NOT_CONFIRMED or (failure.kind is Kind.LOST and commits_itself)
        raise outcome_unknown(ids or (), failure) if in_doubt else failure.error

    def _begin(self) -> psycopg.Connection[Any]:
        driver = self._transaction.driver()
        require_ready(driver)
        set_timeout(driver, self._timeout)
        return driver


@contextmanager
def ended(
    block: AbstractContextManager[Any],
    driver: psycopg.Connection[Any],
    timeout: float,
    error_of: Callable[[Failure], WfeError],
) -> Iterator[None]:
    """A transaction's block: what is raised inside comes out as it is, what fails in ending it as `error_of` says.

    The COMMIT or ROLLBACK, which the timeout bounds, is not sent as if nothing had happened after a statement failed
    and the block went on: it would roll back and say nothing.
    """
    own: BaseException | None = None
    try:
        with block:
            try:
                yield
                _require_usable(driver)
            except BaseException as error:
                own = error
                raise
            finally:
                set_timeout(driver, timeout)
        return
    except CATCHABLE as error:
        failure = classify(error, timed_out=has_timed_out(driver))
    raise own or error_of(failure)  # where both failed, the server rolls back when the connection ends


def outcome_unknown(ids: tuple[str, ...], failure: Failure) -> WfeError:
    """What is said of a write that may have committed: why, and the ids of what was written."""
    reason = "the connection was lost, and it could not be determined whether the write was committed"
    if failure.kind is Kind.NOT_CONFIRMED:
        reason = str(failure.error)
    return OutcomeUnknownError(reason, ids, original=getattr(failure.error, "original", None))


def _require_usable(connection: psycopg.Connection[Any]) -> None:
    """PersistenceError: a statement of this transaction has failed, and the block hid it."""
    if connection.info.transaction_status is TransactionStatus.INERROR:
        raise PersistenceError("a statement of this transaction failed: all of it is rolled back", "25P02")
