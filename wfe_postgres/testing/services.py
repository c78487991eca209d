"""A queue, a lock service and a lifecycle publisher in memory, for tests and for hosts of one process."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

from wfe_postgres.codec.validation import key, member
from wfe_postgres.contract.services import (
    DistributedLockProvider,
    LifecycleEvent,
    LifecyclePublisher,
    QueueProvider,
    QueueType,
)

_GUARD = threading.Lock()
_LOG = logging.getLogger("wfe_postgres")


class InMemoryQueueProvider(QueueProvider):
    """A queue of this process; it can be shared by hosts."""

    def __init__(self) -> None:
        self._ids: defaultdict[QueueType, dict[str, None]] = defaultdict(dict)
        self._changed = threading.Condition()

    @property
    def is_dequeue_blocking(self) -> bool:
        return True

    def queue_work(self, id: str, queue: QueueType) -> None:
        name = key(id, "id")
        with self._changed:
            self._ids[_type(queue)].setdefault(name)
            self._changed.notify_all()

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        ids = self._ids[_type(queue)]
        with self._changed:
            if not self._changed.wait_for(lambda: ids, timeout or 0):
                return None
            id = next(iter(ids))
            del ids[id]
            return id

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def _type(queue: QueueType) -> QueueType:
    return QueueType(member(QueueType, queue, "queue"))


class InMemoryLockProvider(DistributedLockProvider):
    """Locks of this process. Providers that are given the same `holders` exclude each other."""

    def __init__(self, holders: "dict[str, InMemoryLockProvider] | None" = None) -> None:
        self.holders: dict[str, InMemoryLockProvider] = {} if holders is None else holders

    def acquire_lock(self, resource: str) -> bool:
        name = key(resource, "resource")
        with _GUARD:
            if name in self.holders:
                return False
            self.holders[name] = self
            return True

    def release_lock(self, resource: str) -> None:
        with _GUARD:
            if self.is_held(resource):
                del self.holders[resource]

    def is_held(self, resource: str) -> bool:
        return self.holders.get(resource) is self

    def start(self) -> None:
        pass

    def stop(self) -> None:
        for resource in list(self.holders):
            self.release_lock(resource)


class InMemoryLifecyclePublisher(LifecyclePublisher):
    """Tells the subscribers of this process, in the thread that publishes. One that raises stops nothing.

    Publishers that are given the same `callbacks` tell each other's subscribers.
    """

    def __init__(self, callbacks: list[Callable[[LifecycleEvent], object]] | None = None) -> None:
        self._callbacks: list[Callable[[LifecycleEvent], object]] = [] if callbacks is None else callbacks

    def publish(self, event: LifecycleEvent) -> None:
        for callback in list(self._callbacks):
            try:
                callback(event)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a SystemExit would end the thread of a host
                _LOG.exception("a lifecycle callback failed on %s of workflow %r", event.type, event.workflow_id)

    def subscribe(self, callback: Callable[[LifecycleEvent], object]) -> None:
        self._callbacks.append(callback)
