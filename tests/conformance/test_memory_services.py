"""The conformance suites for services on those in memory, and their answer to services that are broken."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from wfe_postgres.contract.services import LifecycleEvent, QueueType
from wfe_postgres.testing import InMemoryLifecyclePublisher, InMemoryLockProvider, InMemoryQueueProvider
from wfe_postgres.testing.conformance import LifecycleConformance, LockConformance, QueueConformance


class TestQueue(QueueConformance):
    """The complete suite."""

    @pytest.fixture
    def make_queue(self) -> Callable[[], InMemoryQueueProvider]:
        queue = InMemoryQueueProvider()
        return lambda: queue


class TestLocks(LockConformance):
    """The complete suite."""

    @pytest.fixture
    def make_locks(self) -> Callable[[], InMemoryLockProvider]:
        return partial(InMemoryLockProvider, {})


class TestLifecycle(LifecycleConformance):
    """The complete suite."""

    @pytest.fixture
    def make_publisher(self) -> Callable[[], InMemoryLifecyclePublisher]:
        return partial(InMemoryLifecyclePublisher, [])


class OneForAll(InMemoryQueueProvider):
    """It has one queue for all types."""

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""
        super().queue_work(id, QueueType.WORKFLOW)

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        """See `QueueProvider`."""
        return super().dequeue_work(QueueType.WORKFLOW, timeout=timeout)


class MovesBack(InMemoryQueueProvider):
    """What is queued again goes to the end."""

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""
        self._ids[queue].pop(id, None)
        super().queue_work(id, queue)


class Forgets(InMemoryQueueProvider):
    """An id that was taken once is never queued again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""
        if id not in self.seen:
            self.seen.add(id)
            super().queue_work(id, queue)


class LosesAtStop(InMemoryQueueProvider):
    """`stop` empties the queue."""

    def stop(self) -> None:
        """See `QueueProvider`."""
        self._ids.clear()


class NeverWaits(InMemoryQueueProvider):
    """It says that it waits, and does not."""

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        """See `QueueProvider`."""
        return super().dequeue_work(queue)


BROKEN_QUEUES: list[tuple[type[InMemoryQueueProvider], str]] = [
    (OneForAll, "test_types_are_queues_of_their_own"),
    (MovesBack, "test_an_id_that_is_queued_again_is_there_once"),
    (Forgets, "test_an_id_that_was_taken_can_be_queued_again"),
    (LosesAtStop, "test_start_and_stop_may_be_called_any_number_of_times"),
    (NeverWaits, "test_a_wait_ends_with_its_timeout"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN_QUEUES)
def test_suite_detects_a_broken_queue(broken: type[InMemoryQueueProvider], test: str) -> None:
    queue = broken()
    method = getattr(QueueConformance(), test)
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        method(**dict.fromkeys(names, queue))


class Reentrant(InMemoryLockProvider):
    """Its holder may acquire a lock again."""

    def acquire_lock(self, resource: str) -> bool:
        """See `DistributedLockProvider`."""
        return self.is_held(resource) or super().acquire_lock(resource)


class ReleasesAll(InMemoryLockProvider):
    """Releases the lock of whoever has it."""

    def release_lock(self, resource: str) -> None:
        """See `DistributedLockProvider`."""
        self.holders.pop(resource, None)


class KeepsAtStop(InMemoryLockProvider):
    """`stop` releases nothing."""

    def stop(self) -> None:
        """See `DistributedLockProvider`."""


class TellsUntilFailure(InMemoryLifecyclePublisher):
    """A callback that raises keeps the others from being called."""

    def publish(self, event: LifecycleEvent) -> None:
        """See `LifecyclePublisher`."""
        for callback in self._callbacks:
            callback(event)


BROKEN_LOCKS: list[tuple[type[InMemoryLockProvider], str]] = [
    (Reentrant, "test_a_held_lock_is_busy_for_its_own_provider"),
    (Reentrant, "test_a_block_that_finds_the_lock_busy_releases_nothing"),
    (ReleasesAll, "test_a_lock_of_another_provider_is_never_released"),
    (KeepsAtStop, "test_start_and_stop_may_be_called_any_number_of_times"),
    (KeepsAtStop, "test_stop_releases_what_is_held_and_nothing_else"),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN_LOCKS)
def test_suite_detects_a_broken_lock_service(broken: type[InMemoryLockProvider], test: str) -> None:
    holders: dict[str, Any] = {}
    method = getattr(LockConformance(), test)
    needed = {"locks": broken(holders), "others": broken(holders)}
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        method(**{name: needed[name] for name in names})


def test_suite_detects_a_publisher_that_a_callback_stops(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: LifecycleEvent) -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError):
        LifecycleConformance().test_a_callback_that_raises_stops_nothing(TellsUntilFailure(), caplog, fail)
