"""The conformance suite for queues, as pytest classes to inherit from.

class TestMyQueue(QueueConformance):
    @pytest.fixture
    def make_queue(self):
        return MyQueue          # called without arguments, for each provider that a test needs
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.services import QueueProvider, QueueType
from wfe_postgres.testing.conformance.locks import BAD_NAMES, NAMES
from wfe_postgres.testing.conformance.support import race, results

WORKFLOW, EVENT, INDEX = QueueType.WORKFLOW, QueueType.EVENT, QueueType.INDEX
THREADS = 8
LONG = 30.0
"""Seconds that a test waits for what comes within milliseconds."""


class QueueConformance:
    """The complete suite. Override `make_queue`."""

    @pytest.fixture
    def make_queue(self) -> Callable[[], QueueProvider]:
        """A factory for providers of one queue, which is empty. Must be overridden."""
        raise NotImplementedError("override the fixture `make_queue` to return a factory for providers")

    @pytest.fixture
    def queue(self, make_queue: Callable[[], QueueProvider]) -> Iterator[QueueProvider]:
        """The provider under test."""
        queue = make_queue()
        yield queue
        queue.stop()

    @pytest.fixture
    def others(self, make_queue: Callable[[], QueueProvider]) -> Iterator[QueueProvider]:
        """Another provider of the same queue, as in another process."""
        others = make_queue()
        yield others
        others.stop()

    def test_an_empty_queue_gives_nothing(self, queue: QueueProvider) -> None:
        """At once, of any type, also after something was taken."""
        assert [queue.dequeue_work(it) for it in QueueType] == [None] * 3
        queue.queue_work("w1", WORKFLOW)
        assert queue.dequeue_work(WORKFLOW) == "w1"
        assert queue.dequeue_work(WORKFLOW) is None

    @pytest.mark.parametrize("type", QueueType)
    def test_what_is_queued_is_taken_once(self, queue: QueueProvider, others: QueueProvider, type: QueueType) -> None:
        """By whoever asks first."""
        queue.queue_work("a", type)
        assert others.dequeue_work(type) == "a"
        assert queue.dequeue_work(type) is None

    def test_first_in_is_first_out(self, queue: QueueProvider, others: QueueProvider) -> None:
        """Whoever queued it."""
        ids = [f"w{number}" for number in range(20)]
        for number, id in enumerate(ids):
            (queue, others)[number % 2].queue_work(id, WORKFLOW)
        assert [queue.dequeue_work(WORKFLOW) for _ in [*ids, None]] == [*ids, None]

    def test_types_are_queues_of_their_own(self, queue: QueueProvider) -> None:
        """The same id can be in each of them."""
        for type in (EVENT, WORKFLOW, INDEX):
            queue.queue_work("a", type)
        queue.queue_work("b", EVENT)
        for type, ids in ((WORKFLOW, ["a", None]), (EVENT, ["a", "b", None]), (INDEX, ["a", None])):
            assert [queue.dequeue_work(type) for _ in ids] == ids

    def test_an_id_that_is_queued_again_is_there_once(self, queue: QueueProvider, others: QueueProvider) -> None:
        """In its first place."""
        for id in ("a", "b", "a", "c", "b", "a"):
            queue.queue_work(id, WORKFLOW)
            others.queue_work(id, WORKFLOW)
        assert [queue.dequeue_work(WORKFLOW) for _ in range(4)] == ["a", "b", "c", None]

    def test_an_id_that_was_taken_can_be_queued_again(self, queue: QueueProvider) -> None:
        """At the end."""
        for id in ("a", "b"):
            queue.queue_work(id, WORKFLOW)
        assert queue.dequeue_work(WORKFLOW) == "a"
        queue.queue_work("a", WORKFLOW)
        assert [queue.dequeue_work(WORKFLOW) for _ in range(3)] == ["b", "a", None]

    def test_start_and_stop_may_be_called_any_number_of_times(self, queue: QueueProvider) -> None:
        """Also `stop` before `start`; what is queued stays, and a stopped provider can be used again."""
        queue.stop()
        for _ in range(2):
            queue.start()
            queue.start()
            queue.queue_work("a", EVENT)
            queue.stop()
            queue.stop()
            assert queue.dequeue_work(EVENT) == "a"

    def test_whether_it_can_wait_does_not_change(self, queue: QueueProvider, others: QueueProvider) -> None:
        """Before, while and after it is used; and all providers of the queue say the same."""
        found = [queue.is_dequeue_blocking]
        queue.start()
        found += [queue.is_dequeue_blocking, others.is_dequeue_blocking]
        assert queue.dequeue_work(WORKFLOW, timeout=0.01) is None
        queue.stop()
        found.append(queue.is_dequeue_blocking)
        assert found in ([True] * 4, [False] * 4)

    def test_a_wait_ends_with_its_timeout(self, queue: QueueProvider) -> None:
        """Not earlier, if the provider can wait; nor much later."""
        assert queue.dequeue_work(WORKFLOW, timeout=0) is None
        began = time.monotonic()
        assert queue.dequeue_work(WORKFLOW, timeout=0.3) is None
        assert not queue.is_dequeue_blocking or time.monotonic() - began >= 0.3
        assert time.monotonic() - began < LONG

    def test_what_is_there_is_taken_without_a_wait(self, queue: QueueProvider, others: QueueProvider) -> None:
        """Of several, too."""
        for id in ("a", "b", "c"):
            others.queue_work(id, WORKFLOW)
        assert [queue.dequeue_work(WORKFLOW, timeout=LONG) for _ in range(3)] == ["a", "b", "c"]

    def test_a_wait_ends_when_something_is_queued(self, queue: QueueProvider, others: QueueProvider) -> None:
        """By this provider or another one; of another type it does not."""
        queue.start()
        for number in range(6):
            found = waiting(queue, LONG)
            others.queue_work(f"e{number}", EVENT)
            (queue, others)[number % 2].queue_work(f"w{number}", WORKFLOW)
            assert found() == f"w{number}"

    def test_of_several_that_wait_each_takes_one(self, queue: QueueProvider, others: QueueProvider) -> None:
        """None of them is forgotten, and none takes what another one took."""
        found = [waiting(it, LONG) for it in (queue, others) * 4]
        ids = {f"w{number}" for number in range(8)}
        for id in sorted(ids):
            others.queue_work(id, WORKFLOW)
        assert {it() for it in found} == ids

    def test_many_threads_move_all_and_double_none(self, queue: QueueProvider, others: QueueProvider) -> None:
        """Those that queue and those that take, at once."""
        taken: list[str] = []

        def produce(thread: int) -> None:
            for number in range(25):
                (queue, others)[thread % 2].queue_work(f"{thread}-{number}", WORKFLOW)

        def consume(provider: QueueProvider) -> None:
            deadline = time.monotonic() + LONG
            while len(taken) < 25 * THREADS and time.monotonic() < deadline:
                if (id := provider.dequeue_work(WORKFLOW, timeout=0.1)) is not None:
                    taken.append(id)

        producers = [partial(produce, it) for it in range(THREADS)]
        results(race([*producers, *(partial(consume, it) for it in (queue, others) * (THREADS // 2))]))
        assert sorted(taken) == sorted(f"{thread}-{number}" for thread in range(THREADS) for number in range(25))

    @pytest.mark.parametrize("id", NAMES, ids=[it[:12] for it in NAMES])
    def test_any_text_is_an_id(self, queue: QueueProvider, id: str) -> None:
        """Two texts that differ are two ids."""
        for it in (id, id + "!"):
            queue.queue_work(it, WORKFLOW)
        assert [queue.dequeue_work(WORKFLOW) for _ in range(3)] == [id, id + "!", None]

    @pytest.mark.parametrize("id", BAD_NAMES.values(), ids=BAD_NAMES)
    def test_what_is_no_id_is_refused(self, queue: QueueProvider, id: Any) -> None:
        """`SerializationError`, with a path and without the value."""
        with pytest.raises(SerializationError) as refused:
            queue.queue_work(id, WORKFLOW)
        assert refused.value.path == "id"
        assert queue.dequeue_work(WORKFLOW) is None

    def test_what_is_no_type_is_refused(self, queue: QueueProvider) -> None:
        """By both methods."""
        unknown: Any = "workflow"
        for call in (partial(queue.queue_work, "a"), queue.dequeue_work, partial(queue.dequeue_work, timeout=0.1)):
            with pytest.raises(SerializationError) as refused:
                call(unknown)
            assert refused.value.path == "queue"


def waiting(queue: QueueProvider, timeout: float) -> Callable[[], str | None]:
    """Wait for work in a thread; the result waits for what it has found."""
    found: list[str | None] = []

    def wait() -> None:
        deadline = time.monotonic() + timeout
        id = None
        while id is None and time.monotonic() < deadline:
            id = queue.dequeue_work(WORKFLOW, timeout=timeout)
            if not queue.is_dequeue_blocking:
                time.sleep(0.01)
        found.append(id)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.05)

    def get() -> str | None:
        thread.join(timeout)
        return found[0] if found else None

    return get
