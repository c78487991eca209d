"""The conformance suites for services on those in memory, and their answer to services that are broken."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from wfe_postgres.contract.services import LifecycleEvent
from wfe_postgres.testing import InMemoryLifecyclePublisher, InMemoryLockProvider
from wfe_postgres.testing.conformance import LifecycleConformance, LockConformance


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
