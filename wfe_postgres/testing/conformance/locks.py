"""The conformance suite for lock services, as pytest classes to inherit from.

class TestMyLocks(LockConformance):
    @pytest.fixture
    def make_locks(self):
        return MyLockProvider          # called without arguments, for each provider that a test needs
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.services import DistributedLockProvider
from wfe_postgres.testing.conformance.support import race, results

THREADS = 8

NAMES = ["", " ", "a'b\"c", "100%", "%(resource)s", "back\\slash", "naïve \N{SNOWMAN} \N{GRINNING FACE}", "x" * 2000]
BAD_NAMES: dict[str, Any] = {
    "NUL": "a\0b",
    "surrogate": "a\ud800",
    "bytes": b"a",
    "number": 7,
    "none": None,
    "too long": "\N{SNOWMAN}" * 2000,
}


class LockConformance:
    """The complete suite. Override `make_locks`."""

    @pytest.fixture
    def make_locks(self) -> Callable[[], DistributedLockProvider]:
        """A factory for providers that exclude each other, on a lock service without locks. Must be overridden."""
        raise NotImplementedError("override the fixture `make_locks` to return a factory for providers")

    @pytest.fixture
    def locks(self, make_locks: Callable[[], DistributedLockProvider]) -> Iterator[DistributedLockProvider]:
        """The provider under test."""
        locks = make_locks()
        yield locks
        locks.stop()

    @pytest.fixture
    def others(self, make_locks: Callable[[], DistributedLockProvider]) -> Iterator[DistributedLockProvider]:
        """Another provider of the same service, as in another process."""
        others = make_locks()
        yield others
        others.stop()

    def test_a_free_lock_is_acquired(self, locks: DistributedLockProvider) -> None:
        """The first one gets it, without `start`."""
        assert not locks.is_held("order")
        assert locks.acquire_lock("order") is True
        assert locks.is_held("order")

    def test_a_held_lock_is_busy_for_its_own_provider(self, locks: DistributedLockProvider) -> None:
        """Not re-entrant: a second acquisition is refused, and changes nothing."""
        assert locks.acquire_lock("order")
        assert locks.acquire_lock("order") is False
        assert locks.is_held("order")

    def test_a_held_lock_is_busy_for_another_provider(
        self, locks: DistributedLockProvider, others: DistributedLockProvider
    ) -> None:
        """One holder among all providers."""
        assert locks.acquire_lock("order")
        assert others.acquire_lock("order") is False
        assert not others.is_held("order")
        assert locks.is_held("order")

    def test_a_released_lock_is_free(self, locks: DistributedLockProvider, others: DistributedLockProvider) -> None:
        """For the same provider and for another one."""
        assert locks.acquire_lock("order")
        locks.release_lock("order")
        assert not locks.is_held("order")
        assert others.acquire_lock("order")
        others.release_lock("order")
        assert locks.acquire_lock("order")

    def test_a_lock_that_is_not_held_may_be_released(self, locks: DistributedLockProvider) -> None:
        """Never acquired, or released before."""
        locks.release_lock("order")
        assert locks.acquire_lock("order")
        locks.release_lock("order")
        locks.release_lock("order")
        assert locks.acquire_lock("order")

    def test_a_lock_of_another_provider_is_never_released(
        self, locks: DistributedLockProvider, others: DistributedLockProvider
    ) -> None:
        """Nor after both have held it in turn."""
        assert others.acquire_lock("order")
        others.release_lock("order")
        assert locks.acquire_lock("order")
        others.release_lock("order")
        assert locks.is_held("order")
        assert others.acquire_lock("order") is False

    def test_locks_are_independent(self, locks: DistributedLockProvider) -> None:
        """A lock keeps nobody from another one, and its release releases no other."""
        assert locks.acquire_lock("a")
        assert locks.acquire_lock("b")
        assert not locks.acquire_lock("a")
        assert not locks.acquire_lock("b")
        locks.release_lock("a")
        assert not locks.is_held("a")
        assert locks.is_held("b")
        assert not locks.acquire_lock("b")

    def test_a_lock_can_be_acquired_again_and_again(self, locks: DistributedLockProvider) -> None:
        """Each release frees it."""
        for _ in range(5):
            assert locks.acquire_lock("order")
            locks.release_lock("order")
        assert locks.acquire_lock("order")
        assert not locks.acquire_lock("order")

    def test_start_and_stop_may_be_called_any_number_of_times(self, locks: DistributedLockProvider) -> None:
        """Also `stop` before `start`; and a stopped provider can be used again."""
        locks.stop()
        for _ in range(2):
            locks.start()
            locks.start()
            assert locks.acquire_lock("order")
            locks.stop()
            locks.stop()
            assert not locks.is_held("order")
        assert locks.acquire_lock("order")

    def test_stop_releases_what_is_held_and_nothing_else(
        self, locks: DistributedLockProvider, others: DistributedLockProvider
    ) -> None:
        """All locks of this provider, and none of another one."""
        locks.start()
        assert all(locks.acquire_lock(it) for it in ("a", "b", "c"))
        assert others.acquire_lock("d")
        locks.stop()
        assert not any(locks.is_held(it) for it in ("a", "b", "c"))
        assert all(others.acquire_lock(it) for it in ("a", "b", "c"))
        assert others.is_held("d")
        assert not locks.acquire_lock("d")

    def test_a_block_holds_the_lock_until_its_end(
        self, locks: DistributedLockProvider, others: DistributedLockProvider
    ) -> None:
        """Also when it ends by an exception."""
        with locks.lock("order") as acquired:
            assert acquired is True
            assert not others.acquire_lock("order")
        with pytest.raises(RuntimeError), locks.lock("order"):
            raise RuntimeError
        assert others.acquire_lock("order")

    def test_a_block_that_finds_the_lock_busy_releases_nothing(self, locks: DistributedLockProvider) -> None:
        """It is told so, and the lock stays with its holder."""
        assert locks.acquire_lock("order")
        with locks.lock("order") as acquired:
            assert acquired is False
        assert locks.is_held("order")

    @pytest.mark.parametrize("name", NAMES, ids=[it[:12] for it in NAMES])
    def test_any_text_names_a_lock(
        self, locks: DistributedLockProvider, others: DistributedLockProvider, name: str
    ) -> None:
        """Two texts that differ name two locks."""
        assert locks.acquire_lock(name)
        assert not others.acquire_lock(name)
        assert others.acquire_lock(name + "!")
        locks.release_lock(name)
        assert others.acquire_lock(name)

    @pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
    def test_what_is_no_name_is_refused(self, locks: DistributedLockProvider, name: str) -> None:
        """`SerializationError`, with a path and without the value."""
        with pytest.raises(SerializationError) as refused:
            locks.acquire_lock(name)
        assert refused.value.path == "resource"

    def test_one_of_many_threads_acquires(
        self, locks: DistributedLockProvider, others: DistributedLockProvider
    ) -> None:
        """Of threads that try at once, in two providers, exactly one succeeds; in every round."""
        for number in range(20):
            name = str(number % 3)
            taken = results(race([partial(it.acquire_lock, name) for it in (locks, others) * (THREADS // 2)]))
            assert sum(taken) == 1
            for it in (locks, others):
                it.release_lock(name)

    def test_a_lock_excludes_all_others(self, locks: DistributedLockProvider, others: DistributedLockProvider) -> None:
        """What threads do under the lock never overlaps."""
        inside: list[str] = []
        most: list[int] = []

        def enter(provider: DistributedLockProvider) -> None:
            for _ in range(40):
                with provider.lock("order") as acquired:
                    if acquired:
                        inside.append("order")
                        most.append(len(inside))
                        inside.pop()

        results(race([partial(enter, it) for it in (locks, others) * 2]))
        assert set(most) == {1}
