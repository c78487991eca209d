"""How one call of a repository reaches the database: in a transaction of its own, or inside the caller's."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Executable
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from wfe_postgres.contract.errors import OutcomeUnknownError, PersistenceError, WfeError
from wfe_postgres.sessions.execution import Execute, Parameters, Rows, executor
from wfe_postgres.sessions.failures import CATCHABLE, READ_ONLY, Failure, Kind, classify, sqlstate_of
from wfe_postgres.sessions.places import Open, Place, joined_source, maker_source
from wfe_postgres.sessions.sockets import driver_connection
from wfe_postgres.sessions.watchdog import Watch, Watchdog

_T = TypeVar("_T")

logger: logging.Logger = logging.getLogger("wfe_postgres")

Attempt = Callable[[Execute, bool], _T]
"""One try at a write. True: an earlier try was cut off and may have taken place, so look first."""

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


class Calls(Protocol):
    """What a repository works through."""

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        """The rows of a statement that changes nothing: one statement, one snapshot."""

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        """A write whose statements each commit by themselves; `ids` name what is written, for an error."""

    def transact(self, attempt: Attempt[_T], *ids: str) -> _T:
        """A write of several statements in one READ COMMITTED transaction."""

    def transaction(self) -> AbstractContextManager["JoinedCalls"]:
        """Several calls in one transaction, committed at the end of the block."""


def calls_for(place: Place | sessionmaker[Any] | Calls, schema: str) -> Calls:
    """The way that fits what a repository was given."""
    if isinstance(place, (OwnCalls, JoinedCalls)):
        return place
    if isinstance(place, sessionmaker):
        return OwnCalls(maker_source(place), schema)
    return JoinedCalls(place, schema)  # type: ignore[arg-type]


class JoinedCalls:
    """Inside the caller's transaction, which is never committed, rolled back or retried here."""

    def __init__(self, place: Place, schema: str, watchdog: Watchdog | None = None) -> None:
        self._place = place
        self._connection = joined_source(place)
        self._schema = schema
        self._watchdog = watchdog or Watchdog(None)

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        """See `Calls`."""
        return self.write(lambda execute, _: execute(statement, parameters))

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        """See `Calls`."""
        self._flush()
        try:
            connection = self._connection()
            with self._watchdog.watch() as watch:
                watch.over(connection)
                return attempt(executor(connection, self._schema), False)
        except CATCHABLE as error:
            failure = classify(error, sent=True)
        raise failure.error

    transact = write

    @contextmanager
    def transaction(self) -> Iterator["JoinedCalls"]:
        """See `Calls`: a savepoint of the caller's transaction."""
        own: BaseException | None = None
        self._flush()
        try:
            connection = self._connection()
            with self._watchdog.watch() as watch:
                watch.over(connection)
                savepoint = self._savepoint()
            with self._watchdog.watch() as watch, savepoint:
                try:
                    yield self
                    self._flush()
                    _require_usable(connection)
                except BaseException as error:
                    own = error
                    raise
                finally:
                    _watch_the_end(watch, connection)
            return
        except CATCHABLE as error:
            failure = classify(error, sent=True)
        raise own or failure.error

    def _savepoint(self) -> AbstractContextManager[Any]:
        if isinstance(self._place, (Session, scoped_session)):
            return self._place.begin_nested()
        return self._connection().begin_nested()

    def _flush(self) -> None:
        """Outside of the translation: the errors of a session's pending objects are the application's own."""
        if isinstance(self._place, (Session, scoped_session)):
            self._place.flush()


class OwnCalls:
    """In connections of its own, one a call; what fails in passing is tried again.

    `retry_budget` is in seconds, 0 switches retries off. A write that was cut off is tried again with the word that it
    may have taken place; where that cannot be found out in time, `OutcomeUnknownError` says so. No new try begins in
    the last `reserve` seconds before a call's deadline, because it might then still be connecting.
    """

    def __init__(
        self,
        opened: Open,
        schema: str,
        *,
        retry_budget: float = 0.0,
        watchdog: Watchdog | None = None,
        reserve: float = 0.0,
    ) -> None:
        if not retry_budget >= 0:
            raise ValueError("retry_budget is a number of seconds from 0 up")
        self._open = opened
        self.schema = schema
        self._retry_budget = retry_budget
        self.watchdog: Watchdog = watchdog or Watchdog(None)
        self._reserve = reserve
        self._closed = False

    def close(self) -> None:
        """Refuse all later calls."""
        self._closed = True
        self.watchdog.close()

    def require_open(self) -> None:
        """`PersistenceError`: it has been closed."""
        if self._closed:
            raise PersistenceError("the provider is closed")

    def join(self, place: Place) -> JoinedCalls:
        """Calls inside a caller's transaction, on the same schema."""
        return JoinedCalls(place, self.schema)

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        """See `Calls`."""
        return self._run(lambda execute, _: execute(statement, parameters), transaction=False, ids=None)

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        """See `Calls`."""
        return self._run(attempt, transaction=False, ids=ids)

    def transact(self, attempt: Attempt[_T], *ids: str) -> _T:
        """See `Calls`."""
        return self._run(attempt, transaction=True, ids=ids)

    @contextmanager
    def transaction(self) -> Iterator[JoinedCalls]:
        """See `Calls`."""
        own: BaseException | None = None
        opened = self._persist(lambda _: self._opened(), self.watchdog.deadline(), None)
        try:
            with self.watchdog.watch() as watch, opened as connection:
                try:
                    yield JoinedCalls(connection, self.schema, self.watchdog)
                    _require_usable(connection)
                except BaseException as error:
                    own = error
                    raise
                finally:
                    _watch_the_end(watch, connection)
            return
        except CATCHABLE as error:
            failure = classify(error, sent=True)
        if own is not None:
            raise own  # that it could not be rolled back either changes nothing: the server does that
        raise _outcome_unknown((), failure) if failure.kind is Kind.LOST else failure.error

    def _opened(self) -> AbstractContextManager[Connection] | Failure:
        try:
            self.require_open()
            return self._open(True)
        except CATCHABLE as error:
            return classify(error, sent=False)

    def _run(self, attempt: Attempt[_T], *, transaction: bool, ids: tuple[str, ...] | None) -> _T:
        deadline = self.watchdog.deadline()
        return self._persist(lambda uncertain: self._try(attempt, uncertain, transaction, deadline), deadline, ids)

    def _persist(self, step: Callable[[bool], _T | Failure], deadline: float, ids: tuple[str, ...] | None) -> _T:
        """The step's result, after as many tries as its failures and the time allow; `ids`: it is a write."""
        until = min(time.monotonic() + self._retry_budget, deadline - self._reserve)
        uncertain = False
        pause = _FIRST_PAUSE
        while True:
            result = step(uncertain)
            if not isinstance(result, Failure):
                if uncertain:
                    logger.warning("the answer to a write was lost; what became of it was found out: %s", _named(ids))
                return result
            uncertain = uncertain or (result.kind is Kind.LOST and ids is not None)
            wait = random.uniform(0, pause)  # full jitter: hosts that failed together do not come back together
            if (result.kind is Kind.FINAL and not uncertain) or time.monotonic() + wait >= until:
                break
            logger.warning("a call is tried again in %.2f s: %s: %s", wait, _named(ids), str(result.error))
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise _outcome_unknown(ids or (), result) if uncertain else result.error

    def _try(self, attempt: Attempt[_T], uncertain: bool, transaction: bool, deadline: float) -> _T | Failure:
        connection: Connection | None = None
        try:
            self.require_open()
            with self.watchdog.watch(deadline) as watch, self._open(transaction) as connection:
                watch.over(connection)
                try:
                    return attempt(executor(connection, self.schema), uncertain)
                except CATCHABLE as error:
                    if sqlstate_of(error) == READ_ONLY:
                        connection.invalidate()  # the primary has moved: the next one may lead there
                    raise
        except CATCHABLE as error:
            return classify(error, sent=connection is not None)


def _watch_the_end(watch: Watch, connection: Connection) -> None:
    """From here on it is COMMIT or ROLLBACK, if there still is a connection."""
    if not (connection.closed or connection.invalidated):
        watch.over(connection)


def _require_usable(connection: Connection) -> None:
    """`PersistenceError`: a statement has failed and the block hid it; a COMMIT would roll back and say nothing."""
    if driver_connection(connection).info.transaction_status is TransactionStatus.INERROR:
        raise PersistenceError("a statement of this transaction failed: all of it is rolled back", "25P02")


def _named(ids: tuple[str, ...] | None) -> str:
    return "a read" if ids is None else ", ".join(map(repr, ids)) or "no id"


def _outcome_unknown(ids: tuple[str, ...], failure: Failure) -> WfeError:
    reason = "the connection was lost, and whether the write took place could not be found out"
    return OutcomeUnknownError(reason, ids, original=getattr(failure.error, "original", None))
