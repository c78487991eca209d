"""The conformance suite for lifecycle publishers, as pytest classes to inherit from.

class TestMyPublisher(LifecycleConformance):
    @pytest.fixture
    def make_publisher(self):
        return MyPublisher             # called without arguments, for each publisher that a test needs
"""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from wfe_postgres.contract.models import ExecutionPointer
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType, LifecyclePublisher
from wfe_postgres.testing.conformance.support import at, eventually, race, results, workflow

THREADS = 4

STEPS = {LifecycleEventType.ERROR, LifecycleEventType.STEP_STARTED, LifecycleEventType.STEP_COMPLETED}
"""The types whose events are about a step."""

TEXTS = {
    "plain": "ValueError: no stock",
    "quotes": 'it\'s "so" \\ %s {} \0',
    "unicode": "naïve \N{SNOWMAN} \N{GRINNING FACE} \u2028",
    "surrogate": "half \ud83d",
    "lines": "a\nb\r\n\tc",
    "long": "x" * 100_000,
    "long in bytes": "\N{SNOWMAN}" * 3_000,
}


def lifecycle_event(type: LifecycleEventType = LifecycleEventType.STARTED, **values: Any) -> LifecycleEvent:
    """An event of this type with all fields that the type has."""
    instance = workflow(id="w1", reference="A-17", version=3)
    pointer = ExecutionPointer(4, id="p1", step_name="reserve") if type in STEPS else None
    message = "ValueError: no stock" if type is LifecycleEventType.ERROR else None
    return replace(LifecycleEvent.of(type, instance, at(1.234567), pointer, message), **values)


def fail(_: LifecycleEvent) -> NoReturn:
    """A callback with a mistake in it."""
    raise RuntimeError("a mistake")


def leave(_: LifecycleEvent) -> NoReturn:
    """A callback that would end its thread."""
    sys.exit(1)


class Received(list[LifecycleEvent]):
    """A callback that keeps the events."""

    def __call__(self, event: LifecycleEvent) -> None:
        self.append(event)

    def wait_for(self, count: int) -> "Received":
        """Wait until there are so many."""
        eventually(lambda: len(self) >= count)
        return self


class LifecycleConformance:
    """The complete suite. Override `make_publisher`."""

    @pytest.fixture
    def make_publisher(self) -> Callable[[], LifecyclePublisher]:
        """A factory for publishers, of which each tells the subscribers of all. Must be overridden."""
        raise NotImplementedError("override the fixture `make_publisher` to return a factory for publishers")

    @pytest.fixture
    def publisher(self, make_publisher: Callable[[], LifecyclePublisher]) -> Iterator[LifecyclePublisher]:
        """The publisher under test."""
        publisher = make_publisher()
        yield publisher
        stop(publisher)

    @pytest.fixture
    def other(self, make_publisher: Callable[[], LifecyclePublisher]) -> Iterator[LifecyclePublisher]:
        """Another one, as in another process."""
        other = make_publisher()
        yield other
        stop(other)

    def test_nobody_need_listen(self, publisher: LifecyclePublisher) -> None:
        """An event without subscribers is no error."""
        publisher.publish(lifecycle_event())

    @pytest.mark.parametrize("type", LifecycleEventType)
    def test_an_event_arrives_as_it_was_published(
        self, publisher: LifecyclePublisher, type: LifecycleEventType
    ) -> None:
        """With all fields of its type."""
        received = Received()
        publisher.subscribe(received)
        publisher.publish(lifecycle_event(type))
        assert received.wait_for(1) == [lifecycle_event(type)]

    def test_fields_may_be_empty(self, publisher: LifecyclePublisher) -> None:
        """A workflow without a reference, a step without a name."""
        received = Received()
        publisher.subscribe(received)
        events = [
            lifecycle_event(reference=None),
            lifecycle_event(LifecycleEventType.STEP_STARTED, step_name=None, step_id=0),
            lifecycle_event(LifecycleEventType.ERROR, message=None, step_name=""),
        ]
        for event in events:
            publisher.publish(event)
        assert received.wait_for(3) == events

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_any_text_arrives(self, publisher: LifecyclePublisher, text: str) -> None:
        """However long it is."""
        received = Received()
        publisher.subscribe(received)
        event = lifecycle_event(LifecycleEventType.ERROR, message=text, step_name=text[:100])
        publisher.publish(event)
        assert received.wait_for(1) == [event]

    def test_all_subscribers_are_told(self, publisher: LifecyclePublisher, other: LifecyclePublisher) -> None:
        """Those of the publisher itself and those of another one; each once."""
        all_received = [Received() for _ in range(4)]
        for it, received in zip((publisher, publisher, other, other), all_received, strict=True):
            it.subscribe(received)
        for it, type in ((publisher, LifecycleEventType.STARTED), (other, LifecycleEventType.COMPLETED)):
            it.publish(lifecycle_event(type))
        for received in all_received:
            types = [it.type for it in received.wait_for(2)]
            assert types == [LifecycleEventType.STARTED, LifecycleEventType.COMPLETED]

    def test_a_subscriber_is_told_of_what_comes_later(self, publisher: LifecyclePublisher) -> None:
        """What was published before it subscribed is not repeated."""
        publisher.publish(lifecycle_event())
        received = Received()
        publisher.subscribe(received)
        publisher.publish(lifecycle_event(LifecycleEventType.COMPLETED))
        assert [it.type for it in received.wait_for(1)] == [LifecycleEventType.COMPLETED]

    def test_events_of_one_publisher_arrive_in_their_order(self, publisher: LifecyclePublisher) -> None:
        """Short and long ones."""
        received = Received()
        publisher.subscribe(received)
        events = [
            lifecycle_event(LifecycleEventType.ERROR, version=number, message="x" * (number % 3) * 8_000)
            for number in range(30)
        ]
        for event in events:
            publisher.publish(event)
        assert [it.version for it in received.wait_for(30)] == [it.version for it in events]

    @pytest.mark.parametrize("callback", [fail, leave])
    def test_a_callback_that_raises_stops_nothing(
        self,
        publisher: LifecyclePublisher,
        caplog: pytest.LogCaptureFixture,
        callback: Callable[[LifecycleEvent], object],
    ) -> None:
        """The other callbacks are called, later events arrive, and the failure is logged."""
        received = Received()
        publisher.subscribe(callback)
        publisher.subscribe(received)
        with caplog.at_level(logging.ERROR):
            publisher.publish(lifecycle_event())
            publisher.publish(lifecycle_event(LifecycleEventType.COMPLETED))
            received.wait_for(2)
        logged = [it for it in caplog.records if it.levelno >= logging.ERROR and "'w1'" in it.getMessage()]
        assert len(logged) == 2
        assert all(it.exc_info for it in logged)

    def test_many_threads_may_publish(self, publisher: LifecyclePublisher) -> None:
        """All events arrive, each once."""
        received = Received()
        publisher.subscribe(received)

        def publish() -> None:
            for number in range(10):
                publisher.publish(lifecycle_event(version=number))

        results(race([publish] * THREADS))
        assert sorted(it.version for it in received.wait_for(10 * THREADS)) == sorted([*range(10)] * THREADS)


def stop(publisher: LifecyclePublisher) -> None:
    """Stop the publisher, if it can be stopped."""
    getattr(publisher, "stop", lambda: None)()
