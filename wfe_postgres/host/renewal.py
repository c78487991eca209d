"""Keeps the leases of steps that take long."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from wfe_postgres.contract.errors import ConcurrencyError, OutcomeUnknownError, WfeError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionPointer, WorkflowInstance
from wfe_postgres.host.context import LOG
from wfe_postgres.host.outage import Outage
from wfe_postgres.host.pointers import milliseconds


class Claim:
    """A workflow of which this host runs a step. Its lease is renewed only once two thirds of it are left."""

    def __init__(self, leases: "Leases", instance: WorkflowInstance, pointer: ExecutionPointer) -> None:
        self.instance = instance
        self.pointer = pointer
        self.revision: int | None = instance.revision
        """Under which the result of the step can be saved."""
        self.began: float = time.monotonic()
        self.is_lost: bool = False
        self._leases = leases
        left = ((instance.next_execution or 0) - milliseconds(leases.now())) / 1000
        self._expires = self.began + min(left, leases.seconds)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._unanswered: set[int] = set()
        """The values of `next_execution` in renewals of which it is not known whether they were committed."""

    @property
    def elapsed(self) -> float:
        """How many seconds the step has been running."""
        return time.monotonic() - self.began

    @property
    def is_over(self) -> bool:
        """True once the workflow was changed by somebody else, or the lease has expired without a renewal."""
        return self.is_lost or time.monotonic() > self._expires

    @property
    def is_long(self) -> bool:
        """Whether the step has taken so long that its lease is to be renewed."""
        return time.monotonic() > self._expires - self._leases.seconds * 2 / 3

    def keep(self) -> None:
        """Renew the lease every third of it, until the claim is released or lost."""
        while not (self._released.is_set() or self.is_lost or self._leases.are_closed):
            with self._lock:
                if not self._released.is_set():
                    self._renew()
            self._released.wait(self._leases.seconds / 3)

    def release(self) -> None:
        """End the renewal. A running one is awaited; after a long step, a last one covers the save that follows.

        Raises `HostStoppedError`.
        """
        self._leases.forget(self)
        if self._released.is_set():
            return
        self._released.set()
        with self._lock:
            if not self.is_lost and self.is_long:
                self._renew()
            if self._unanswered and not self.is_lost:
                self._leases.outage.outlast(self._look)

    def _renew(self) -> None:
        assert self.instance.revision is not None, "a claimed workflow was saved"
        until = milliseconds(self._leases.now() + timedelta(seconds=self._leases.seconds))
        began = time.monotonic()
        try:
            try:
                revision = self._leases.provider.renew_workflow(self.instance.id, self.instance.revision, until)
            except (ConcurrencyError, WorkflowNotFoundError):
                self._look()
            else:
                self.revision = self.instance.revision = revision
                self._expires = began + self._leases.seconds
        except WfeError as error:
            if isinstance(error, OutcomeUnknownError):
                self._unanswered.add(until)
            LOG.info("the lease of workflow %r was not renewed: %s", self.instance.id, error)

    def _look(self) -> None:
        """Whether it was a renewal of this claim that changed the workflow, or somebody else. Raises `WfeError`."""
        for stored in self._leases.provider.get_workflow_instances([self.instance.id]):
            is_own = stored.next_execution in self._unanswered and stored.status is self.instance.status
            if is_own or stored.revision == self.revision:
                self._unanswered.clear()
                self.revision = self.instance.revision = stored.revision
                return
        self.is_lost = True
        warn_lost(self.instance, self.pointer, self.elapsed)


class Leases:
    """All claims of a host. One thread watches for steps that take long; each of these is renewed by a thread.

    Without a running step the first ends: in `rest` at once, else within a twelfth of a lease.
    """

    def __init__(
        self, provider: PersistenceProvider, seconds: float, now: Callable[[], datetime], outage: Outage
    ) -> None:
        self.outage = outage
        self.provider = provider
        self.seconds = seconds
        self.now = now
        self._claims: set[Claim] = set()
        self._changed = threading.Condition()
        self._watcher: threading.Thread | None = None
        self.are_closed: bool = False

    def open(self) -> None:
        """Renew the leases of steps that take long."""
        self.are_closed = False

    def close(self) -> None:
        """Renew no lease any more."""
        self.are_closed = True

    def claim(self, instance: WorkflowInstance, pointer: ExecutionPointer) -> Claim:
        """The step is about to be run."""
        claim = Claim(self, instance, pointer)
        with self._changed:
            self._claims.add(claim)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="wfe-leases", daemon=True)
                self._watcher.start()
        return claim

    def forget(self, claim: Claim) -> None:
        """The step has ended."""
        with self._changed:
            self._claims.discard(claim)
            if self.are_closed:
                self._end_watcher()

    def rest(self) -> None:
        """End the thread that watches, unless a step is running."""
        with self._changed:
            watcher = self._end_watcher()
        if watcher is not None:
            watcher.join()

    def _end_watcher(self) -> threading.Thread | None:
        if self._claims:
            return None
        watcher, self._watcher = self._watcher, None
        self._changed.notify_all()
        return watcher

    def _watch(self) -> None:
        """Until no step is running. That is looked for after each twelfth of a lease."""
        with self._changed:
            while self._watcher is threading.current_thread():
                long = [claim for claim in self._claims if claim.is_long]
                self._claims.difference_update(long)
                for claim in long:
                    threading.Thread(target=claim.keep, name="wfe-renewal", daemon=True).start()
                self._changed.wait(self.seconds / 12)
                self._end_watcher()


def warn_lost(instance: WorkflowInstance, pointer: ExecutionPointer | None, elapsed: float) -> None:
    """Log that the result of a step cannot be saved."""
    LOG.warning(
        "workflow %r, step %r: changed by somebody else after %.1f s (the lease or the lock was lost, or it was "
        "suspended or terminated); the result of the step is not saved",
        instance.id,
        pointer.step_name if pointer else None,
        elapsed,
    )
