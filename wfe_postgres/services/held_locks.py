"""The locks that one process holds: their leases are renewed in the background, and a lost one is noticed.

Whether a lease has ended is judged by this process alone, by a clock that never goes back and counts from before the
statement was sent: at that time the server has not yet given the lock to anybody else.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from wfe_postgres.connections.deadlines import monotonic
from wfe_postgres.connections.pooled import logger

now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else monotonic
)
"""Seconds on a clock that never goes back, and where the system has one goes on while the machine is suspended."""

_OFTEN = 12
"""How many times in a lease the threads look what is to be done."""


@dataclass
class Held:
    """A lock that was acquired, until it is released or lost."""

    resource: str
    holder: int
    """A random number of this acquisition."""
    token: int
    """The fencing number."""
    expires: float
    """By `now`."""


class HeldLocks:
    """The locks of one provider in one process. Two threads serve them, as long as there are any.

    One thread renews; it waits for the server, so another one notices when a lease ends. `renew` sends one statement
    for the locks that it is given, and returns the `holder` of those that are still held.
    """

    def __init__(
        self,
        lease: float,
        renew: Callable[[Iterable[Held]], set[int]],
        on_lost: Callable[[str], object] | None,
    ) -> None:
        self._lease = lease
        self._renew = renew
        self._on_lost = on_lost
        self._held: dict[str, Held] = {}
        self._lost: list[Held] = []
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()

    def add(self, lock: Held) -> None:
        """The lock was acquired."""
        with self._changed:
            self._lose(self._held.pop(lock.resource, None))
            self._held[lock.resource] = lock
            if not self._threads:
                for name, act in (("renewal", self._keep), ("watch", self._watch)):
                    thread = threading.Thread(target=self._run, args=(act,), name=f"wfe_postgres-lock-{name}")
                    thread.daemon = True
                    self._threads.add(thread)
                    thread.start()

    def get(self, resource: str) -> Held | None:
        """The lock, if it is held and its lease has not ended."""
        lock = self._held.get(resource)
        return lock if lock is not None and now() < lock.expires else None

    def pop(self, resource: str) -> Held | None:
        """Take the lock out, to release it."""
        with self._changed:
            return self._held.pop(resource, None)

    def pop_all(self) -> list[Held]:
        """Take all locks out, and end the threads."""
        with self._changed:
            locks = list(self._held.values())
            self._held.clear()
            self._threads.clear()
            self._changed.notify_all()
            return locks

    def _run(self, act: Callable[[], float]) -> None:
        """Act, and again after so many seconds, until `pop_all`, or until nothing was held for the time of a lease."""
        idle_since = now()
        while True:
            pause = act()
            with self._changed:
                idle_since = now() if self._held else idle_since
                if now() - idle_since > self._lease:
                    self._threads.clear()
                if threading.current_thread() not in self._threads:
                    return
                if not self._lost:
                    self._changed.wait(max(0.0, min(pause, self._lease / _OFTEN)))

    def _keep(self) -> float:
        """Renew the leases of all locks, if one of them has lost a third of its time."""
        with self._changed:
            locks = [it for it in self._held.values() if it.expires > now()]
        began = now()
        if locks and min(it.expires for it in locks) - began < self._lease * 2 / 3:
            try:
                self._kept(locks, self._renew(locks), began)
            except Exception as error:
                logger.info("the leases of %d locks were not renewed: %s", len(locks), error)
        return self._lease

    def _kept(self, locks: Iterable[Held], kept: set[int], began: float) -> None:
        with self._changed:
            for lock in locks:
                if self._held.get(lock.resource) is not lock:
                    continue
                if lock.holder not in kept:
                    self._lose(self._held.pop(lock.resource))
                elif now() < lock.expires:  # what `get` may have reported as lost stays lost
                    lock.expires = began + self._lease

    def _watch(self) -> float:
        """Take out the locks whose leases have ended, and tell of all that were lost."""
        with self._changed:
            for lock in [it for it in self._held.values() if now() >= it.expires]:
                self._lose(self._held.pop(lock.resource))
            lost, self._lost = self._lost, []
        for lock in lost:
            logger.warning(
                "the lock %r was lost: its lease was not renewed in time, or somebody else has it", lock.resource
            )
            try:
                if self._on_lost is not None:
                    self._on_lost(lock.resource)
            except BaseException:  # a SystemExit would end the thread
                logger.exception("on_lost failed for the lock %r", lock.resource)
        return min((it.expires for it in list(self._held.values())), default=now() + self._lease) - now()

    def _lose(self, lock: Held | None) -> None:
        if lock is not None:
            self._lost.append(lock)
            self._changed.notify_all()
