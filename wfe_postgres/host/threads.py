"""The threads of a host: one that polls, some that work, and two that listen to the queue."""

import threading
import time
from collections.abc import Callable
from typing import Any

from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.contract.services import QueueProvider, QueueType
from wfe_postgres.host.environment import LOG, Environment
from wfe_postgres.host.outage import is_transient
from wfe_postgres.host.scheduler import Scheduler
from wfe_postgres.host.work import Kind, Work

_LOOK = 0.2
"""Seconds after which a thread at rest looks whether the host is stopping."""


class Threads:
    """They are daemons: a process that ends without `stop` is not held up by a step."""

    def __init__(
        self, environment: Environment, scheduler: Scheduler, work: Work, count: int, queue: QueueProvider | None
    ) -> None:
        self._env = environment
        self._scheduler = scheduler
        self._work = work
        self.count: int = count
        self._queue = queue
        self._threads: list[threading.Thread] = []
        self._wake = threading.Event()
        self._has_more = False

    @property
    def are_running(self) -> bool:
        """True between `start` and `stop`."""
        return bool(self._threads) and not self._env.stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._env.stopping.clear()
        self._env.leases.open()
        for service in (self._env.lock, self._queue):
            if service is not None:
                service.start()
        targets: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [("poll", self._poll, ())]
        targets += [(f"worker-{it}", self._run, ()) for it in range(self.count)]
        if self._queue is not None:
            targets += [
                ("workflow-queue", self._listen, (self._queue, QueueType.WORKFLOW, Kind.WORKFLOW)),
                ("event-queue", self._listen, (self._queue, QueueType.EVENT, Kind.EVENT)),
            ]
        self._threads = [
            threading.Thread(target=target, args=args, name=f"wfe-{name}", daemon=True)
            for name, target, args in targets
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float | None) -> int:
        """Take no new work, and wait for the threads; returns how many are still running."""
        self._env.stopping.set()
        self._work.clear()
        self._wake.set()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        left = sum(thread.is_alive() for thread in self._threads)
        self._threads = []
        if left:
            self._env.leases.close()
        self._env.leases.rest()
        for service in (self._queue, self._env.lock):
            if service is not None:
                service.stop()
        return left

    def _poll(self) -> None:
        while not self._env.stopping.is_set():
            self._wake.clear()
            try:
                if len(self._work) < self.count:
                    self._has_more = self._scheduler.poll(scattered=True)
                    self._env.outage.end()
            except PersistenceError as error:
                self._has_more = False
                if is_transient(error):
                    self._env.outage.begin(error)
                else:
                    LOG.error("the poll failed: %s", error)
            except Exception:
                self._has_more = False
                LOG.exception("the poll failed")
            if not (self._has_more and len(self._work) < self.count):
                self._wake.wait(self._env.poll_interval)

    def _run(self) -> None:
        while not self._env.stopping.is_set():
            item = self._work.take(_LOOK)
            if item is not None:
                try:
                    self._scheduler.do(item)
                except BaseException:
                    LOG.exception("%s %r failed", item[0].value, item[1])
            if self._has_more and len(self._work) < self.count:
                self._wake.set()

    def _listen(self, queue: QueueProvider, type: QueueType, kind: Kind) -> None:
        while not self._env.stopping.is_set():
            if not self._work.has_room(self.count, _LOOK):
                continue  # what waits in the queue can be taken by another host
            try:
                id = queue.dequeue_work(type, timeout=_LOOK)
            except Exception as error:
                LOG.warning("the queue failed, work waits for the next poll: %s", error)
                id = None
                self._env.stopping.wait(self._env.poll_interval)
            if id is not None:
                self._work.add((kind, id))
            elif not queue.is_dequeue_blocking:
                self._env.stopping.wait(_LOOK)
