"""The host: runs the workflows of its definitions, in threads or until idle."""

import os
import signal
import time as clocks
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.services import (
    DistributedLockProvider,
    LifecycleEvent,
    LifecyclePublisher,
    QueueProvider,
    QueueType,
)
from wfe_postgres.host.client import WorkflowClient
from wfe_postgres.host.definitions import Definitions, WorkflowDefinition
from wfe_postgres.host.environment import LOG, Environment, Hints, Middleware, Transaction
from wfe_postgres.host.lifecycle import Lifecycle
from wfe_postgres.host.outage import is_transient
from wfe_postgres.host.results import Time, seconds
from wfe_postgres.host.scheduler import Scheduler
from wfe_postgres.host.threads import Threads
from wfe_postgres.host.work import Kind, Work

_UNTOLERATED = 3
"""A host does not start if its clock differs from the server's by more than the lease divided by this."""
_PAGE = 50
"""How many workflows, and events, one poll asks for."""
_SIGNAL_CHECK = 0.05


def _utc_now() -> datetime:
    return datetime.now(UTC)


class WorkflowHost(WorkflowClient):
    """Runs the workflows of the given definitions; any number of hosts work on one store.

    - `provider`: the store, which the host does not close.
    - `transaction`: gives a transaction for each step, `provider.step_transactions(sessionmaker)` for example: what the
      step writes in it is committed with its result.
    - `queue`, `lock`, `lifecycle`: see `QueueProvider`, `DistributedLockProvider`, `LifecyclePublisher`.
    - `middleware`: callables of the context and `call_next`, around each step, the first one outermost.
    - `threads`: how many workflows are run at a time.
    - `lease`: after this time (seconds or `timedelta`) without a renewal, another host repeats the step of a host that
      was killed.
    - `poll_interval`: the time between two polls, in seconds or as `timedelta`.
    - `clock`: gives the time, with its timezone.

    A host that is never started is a client: it starts workflows and publishes events. Raises `ValueError` for two
    definitions of one id and version, and for times that are not positive.
    """

    def __init__(
        self,
        provider: PersistenceProvider,
        definitions: Iterable[WorkflowDefinition] = (),
        *,
        transaction: Transaction | None = None,
        queue: QueueProvider | None = None,
        lock: DistributedLockProvider | None = None,
        lifecycle: LifecyclePublisher | None = None,
        middleware: Sequence[Middleware] = (),
        threads: int = 4,
        lease: Time = 30.0,
        poll_interval: Time = 1.0,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        if not (threads >= 1 and seconds(lease) > 0 and seconds(poll_interval) > 0):
            raise ValueError("threads, lease and poll_interval are positive")
        self._lifecycle = Lifecycle(lifecycle)
        self._work = Work()
        self._queue = queue
        hints = Hints.by(self._is_due, publish=self._lifecycle.publish)
        super().__init__(provider, Definitions(definitions), clock, hints)
        times = seconds(lease), seconds(poll_interval)
        self._environment = Environment(
            provider, self.definitions, transaction, tuple(middleware), lock, *times, clock, hints
        )
        self._scheduler = Scheduler(self._environment, self._work, page=max(_PAGE, 4 * threads))
        self._threads = Threads(self._environment, self._scheduler, self._work, threads, queue)

    def register(self, definition: WorkflowDefinition) -> None:
        """Add a definition, also while the host is running.

        Raises `ValueError` if another one of its id and version is known.
        """
        self.definitions.add(definition)

    @property
    def threads(self) -> int:
        """How many workflows are run at a time. It can be set before the host is started."""
        return self._threads.count

    @threads.setter
    def threads(self, count: int) -> None:
        if count < 1:
            raise ValueError("threads is positive")
        self._threads.count = count

    def on(self, callback: Callable[[LifecycleEvent], object]) -> None:
        """Call it with everything that happens to workflows in this host, after the save that makes it true.

        It is called in the host's threads, at most once for each event. One that raises stops nothing; it is logged.
        """
        self._lifecycle.on(callback)

    def using(
        self, session_or_connection: Any, /, *, on_commit: Callable[[Callable[[], None]], Any] | None = None
    ) -> WorkflowClient:
        """The same verbs inside the caller's transaction, which it commits: see the provider's `using`.

        A queue that has `using` too, as PostgreSQL's, wakes a worker when the transaction is committed. For another
        queue, or without one, `on_commit` is given what is to be called after the commit: it can be Django's
        `transaction.on_commit`, or `append` of a list of the application's. Without it, what is started or published
        here is found by the next poll.

        Raises `TypeError` if the provider cannot work in a transaction of the application's.
        """
        using = getattr(self.provider, "using", None)
        if using is None:
            raise TypeError(f"{type(self.provider).__name__} cannot work in a transaction of the application's")
        queue_in = getattr(self._queue, "using", None)
        hints = None
        if queue_in is not None:
            hints = Hints.by(queue_in(session_or_connection).queue_work, in_transaction=True)
        elif on_commit is not None:
            hints = Hints.by(lambda it, queue: on_commit(partial(self._is_due, it, queue)), in_transaction=True)
        return WorkflowClient(using(session_or_connection), self.definitions, self.clock, hints)

    def start(self) -> None:
        """Begin to run workflows, in threads. A host that runs already goes on.

        Raises `ValueError` if this machine's clock is too far from the server's, and `PersistenceError`.
        """
        if not self._threads.are_running:
            self._require_common_time()
            self._environment.given_up.clear()
            self._threads.start()

    def stop(self, timeout: Time | None = None) -> None:
        """Take no new work and wait until the steps that are running have ended and been saved.

        After `timeout` (seconds or `timedelta`; `None`: no limit) the host gives up: their leases expire, and other
        hosts repeat them.
        """
        left = self._threads.stop(None if timeout is None else seconds(timeout))
        if left:
            LOG.warning("%d steps are still running at the end of the timeout; their leases will expire", left)
            self._environment.given_up.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.stop()

    def run(self, timeout: Time | None = None) -> None:
        """Run until SIGTERM or SIGINT, then `stop(timeout)`. A second signal ends the process at once.

        To be called in the main thread.
        """
        numbers: list[int] = []

        def end(number: int, _: Any) -> None:
            if numbers:
                os._exit(128 + number)
            numbers.append(number)

        def is_over() -> bool:
            if numbers:
                LOG.info("stopping: %s", signal.Signals(numbers[0]).name)
            return bool(numbers)

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.run_until(is_over, timeout)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run_until(self, is_over: Callable[[], bool], timeout: Time | None = None) -> None:
        """Run until the callable, which is called often, returns True; then `stop(timeout)`.

        For an application that has handlers for signals of its own, or another way to be stopped.
        """
        while not is_over():
            self._start_if_available()
            clocks.sleep(_SIGNAL_CHECK)
        self.stop(timeout)

    def _start_if_available(self) -> None:
        """Start; while the database is unavailable, log that once and wait a while instead."""
        try:
            self.start()
        except PersistenceError as error:
            if not is_transient(error):
                raise
            self._environment.outage.begin(error)
            clocks.sleep(self._environment.poll_interval)

    def run_until_idle(self, *, advance: bool = False) -> None:
        """Run everything that is due, and what becomes due by that, in this thread. A step that fails is not raised.

        `advance`: then let the clock jump to the next alarm and go on, until there is none. The clock is one with
        `advance_to(time)`, such as `wfe_postgres.testing.ManualClock`; any other is a `TypeError`.
        """
        advance_to = getattr(self.clock, "advance_to", None)
        if advance and advance_to is None:
            raise TypeError("advance=True needs a clock with advance_to(), such as wfe_postgres.testing.ManualClock")
        try:
            while True:
                while self._scheduler.run_once():
                    pass
                alarm = self._scheduler.next_alarm() if advance_to is not None and advance else None
                if alarm is None or advance_to is None:
                    return
                advance_to(alarm)
        finally:
            self._environment.leases.rest()

    def _require_common_time(self) -> None:
        get_offset = getattr(self.provider, "get_clock_offset", None)
        # The first answer can be as wrong as it takes to connect; the least of a few is the most exact.
        offset = min((get_offset() for _ in range(3)), key=abs) if get_offset is not None else 0.0
        if abs(offset) > self._environment.lease / _UNTOLERATED:
            raise ValueError(
                f"this machine's clock is {offset:+.1f} s from the database server's, by which leases of "
                f"{self._environment.lease:g} s cannot be kept: correct the clock"
            )

    def _is_due(self, id: str, queue: QueueType) -> None:
        """Spare this host, or whoever is first at the queue, the wait for the next poll."""
        kind = Kind(queue.lower())
        if self._queue is not None:
            try:
                self._queue.queue_work(id, queue)
                return
            except Exception as error:
                LOG.warning("the queue failed, %s %r waits for the next poll: %s", kind.value, id, error)
        if self._threads.are_running:
            self._work.add((kind, id))
