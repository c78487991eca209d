"""Calls on connections of one's own, one a call: transient errors are retried, and nothing is done twice."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

from sqlalchemy import Executable

from wfe_postgres.connections.confirmation import CONFIRM
from wfe_postgres.connections.deadlines import has_timed_out, monotonic, set_timeout
from wfe_postgres.connections.execution import Parameters, Rows, require_confirmed
from wfe_postgres.connections.failures import CATCHABLE, Failure, Kind, classify
from wfe_postgres.connections.lean import LeanLease
from wfe_postgres.connections.lease import Lease
from wfe_postgres.connections.runners import Attempt, JoinedRunner, ended, outcome_unknown
from wfe_postgres.contract.errors import PersistenceError, WfeError

_T = TypeVar("_T")

logger: logging.Logger = logging.getLogger("wfe_postgres")

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_MOST_UNKNOWN = 8
"""How often a call tries to connect when the reason of the failure is not recognized."""
_SHARE_OF_A_TRY = 2 / 3
_MAYBE_COMMITTED = (Kind.LOST, Kind.NOT_CONFIRMED)


class ConnectionSource(Protocol):
    """Where a runner's connections come from. `deadline`: a time of `monotonic()`, by which one has to be there."""

    def for_transaction(self, deadline: float) -> Lease:
        """A connection in a transaction, which is committed at the end of the block."""

    def for_statements(self, deadline: float) -> Lease | LeanLease:
        """A connection on which each statement commits by itself."""


class PooledRunner:
    """On connections of an engine's pool, one per call; transient errors are retried.

    In seconds: `retry_budget`, what one call may spend on retries (0: none); `timeout`, how long it may take in all.
    A write whose answer was lost is retried with `may_have_committed`; if its outcome cannot be determined in time, the
    call raises `OutcomeUnknownError`. One try takes at most two thirds of the time that is left, so that after one that
    hangs there is time for another.
    """

    def __init__(
        self, source: ConnectionSource, schema: str, *, retry_budget: float = 0.0, timeout: float = math.inf
    ) -> None:
        if not retry_budget >= 0:
            raise ValueError("retry_budget is a number of seconds from 0 up")
        self._source = source
        self.schema = schema
        self._retry_budget = retry_budget
        self.timeout = timeout
        self._closed = False

    def close(self) -> None:
        """Refuse all later calls."""
        self._closed = True

    def require_open(self) -> None:
        """`PersistenceError`: it has been closed."""
        if self._closed:
            raise PersistenceError("the provider is closed")

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        return self._run(lambda execute, _: execute(statement, parameters), transaction=False, ids=None)

    def write(self, attempt: Attempt[_T], *ids: str) -> _T:
        return self._run(attempt, transaction=False, ids=ids)

    def transact(self, attempt: Attempt[_T], *ids: str) -> _T:
        return self._run(attempt, transaction=True, ids=ids)

    @contextmanager
    def transaction(self) -> Iterator[JoinedRunner]:
        """See `StatementRunner`. `OutcomeUnknownError`: the connection was lost while it was being committed."""
        deadline = monotonic() + self.timeout
        lease = self._leased(deadline)
        if isinstance(lease, Failure):
            lease = self._retried(lambda _: self._leased(deadline), lease, deadline, None)
        with ended(_confirmed(lease), lease.driver, self.timeout, _error_of_commit):
            yield JoinedRunner(lease.connection, self.schema, self.timeout)

    def _leased(self, deadline: float) -> Lease | Failure:
        try:
            self.require_open()
            return self._source.for_transaction(deadline)
        except CATCHABLE as error:
            return classify(error, sent=False)

    def _run(self, attempt: Attempt[_T], *, transaction: bool, ids: tuple[str, ...] | None) -> _T:
        deadline = monotonic() + self.timeout
        result = self._try(attempt, transaction, deadline, ids is not None)
        if not isinstance(result, Failure):
            return result
        step = partial(self._try, attempt, transaction, deadline, ids is not None)
        return self._retried(step, result, deadline, ids)

    def _retried(
        self, step: Callable[[bool], _T | Failure], failure: Failure, deadline: float, ids: tuple[str, ...] | None
    ) -> _T:
        """The step's result, retried after this failure as it and the time allow. `ids`: `None` for a read."""
        until = min(deadline, monotonic() + self._retry_budget)
        doubt: Failure | None = None
        """Why an earlier try may have committed."""
        pause = _FIRST_PAUSE
        for tries in count(1):
            if failure.kind in _MAYBE_COMMITTED and ids is not None:
                doubt = doubt or failure
            is_final = failure.kind is Kind.FINAL or (failure.kind is Kind.UNKNOWN_CONNECT and tries >= _MOST_UNKNOWN)
            # Full jitter: hosts that failed together do not come back together.
            wait = random.uniform(0, pause)
            if (is_final and not doubt) or monotonic() + wait >= until:
                break
            logger.warning("retrying in %.2f s after a transient error: %s: %s", wait, _named(ids), str(failure.error))
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
            result = step(doubt is not None)
            if not isinstance(result, Failure):
                if doubt:
                    logger.warning(
                        "the answer to a write was lost; its outcome was determined by a retry: %s", _named(ids)
                    )
                return result
            failure = result
        raise outcome_unknown(ids or (), doubt) if doubt else failure.error

    def _try(
        self, attempt: Attempt[_T], transaction: bool, deadline: float, is_write: bool, may_have_committed: bool = False
    ) -> _T | Failure:
        lease: Lease | LeanLease | None = None
        sent = False
        try:
            self.require_open()
            lease = self._source.for_transaction(deadline) if transaction else self._source.for_statements(deadline)
            with lease:
                sent = True
                set_timeout(lease.driver, (deadline - monotonic()) * _SHARE_OF_A_TRY)
                execute = partial(lease.execute, self.schema)
                result = attempt(execute, may_have_committed)
                if may_have_committed:
                    execute(CONFIRM, {})
            if is_write:
                require_confirmed(lease.driver, lease.monitor)
            return result
        except CATCHABLE as error:
            timed_out = lease is not None and has_timed_out(lease.driver)
            return classify(error, sent=sent, timed_out=timed_out, schema=self.schema)


@contextmanager
def _confirmed(lease: Lease) -> Iterator[None]:
    with lease:
        yield
    require_confirmed(lease.driver, lease.monitor)


def _error_of_commit(failure: Failure) -> WfeError:
    return outcome_unknown((), failure) if failure.kind in _MAYBE_COMMITTED else failure.error


def _named(ids: tuple[str, ...] | None) -> str:
    return "a read" if ids is None else ", ".join(map(repr, ids)) or "no id"
