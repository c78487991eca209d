"""A wait is given the earliest event that it accepts, also when a later one is handed over first."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from wfe_postgres import PointerStatus
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock

LEASE = 30.0


class Interrupted(InMemoryPersistenceProvider):
    """A store that calls something before the first look for earlier events."""

    def __init__(self) -> None:
        super().__init__()
        self.before_look: list[Callable[[], object]] = []

    def get_events_since(self, event_name: str, event_key: str, since: datetime, limit: int | None = None) -> list[str]:
        """See `EventRepository`."""
        while self.before_look:
            self.before_look.pop()()
        return super().get_events_since(event_name, event_key, since, limit)


class Store:
    """A store with a clock and hosts of one definition."""

    def __init__(self, builder: WorkflowBuilder) -> None:
        self.provider: Interrupted = Interrupted()
        self.clock: ManualClock = ManualClock()
        self._definition = builder.build()
        self.id: str = self.host().start_workflow(self._definition.id)

    def host(self) -> WorkflowHost:
        """Another host."""
        return WorkflowHost(self.provider, [self._definition], clock=self.clock, lease=LEASE)

    def publish(self, name: str) -> None:
        """An event, a second after the last one."""
        self.clock.advance(1)
        self.host().publish_event("approved", "4711", name)

    @property
    def data(self) -> Any:
        """What the workflow was given."""
        return self.provider.get_workflow_instance(self.id).data


def two_waits() -> WorkflowBuilder:
    """Two waits for one key."""
    builder = WorkflowBuilder("order")
    return builder.wait_for("approved", key="4711", into="first").wait_for("approved", key="4711", into="second")


def die() -> None:
    """As kill -9 does: nothing more is written."""
    raise KeyboardInterrupt


def test_host_that_died_before_the_look_leaves_a_wait_that_is_given_the_earliest_event() -> None:
    store = Store(two_waits())
    store.publish("one")
    store.provider.mark_event_processed(store.provider.get_runnable_events(store.clock())[0])
    store.provider.before_look.append(die)
    with pytest.raises(KeyboardInterrupt):
        store.host().run_until_idle()
    [pointer] = store.provider.get_workflow_instance(store.id).execution_pointers
    assert pointer.status is PointerStatus.WAITING_FOR_EVENT
    store.publish("two")
    store.host().run_until_idle(advance=True)
    assert store.data == {"first": "one", "second": "two"}


def test_wait_is_given_the_earliest_event_when_another_host_hands_over_a_later_one_before_the_look() -> None:
    store = Store(two_waits())
    store.publish("one")
    store.provider.mark_event_processed(store.provider.get_runnable_events(store.clock())[0])

    def hand_over() -> None:
        store.publish("two")
        store.host().run_until_idle()

    store.provider.before_look.append(hand_over)
    store.host().run_until_idle(advance=True)
    assert store.data == {"first": "one", "second": "two"}


def test_wait_is_given_the_event_that_came_during_a_step_of_its_workflow_before_a_later_one() -> None:
    def publish(context: StepContext) -> None:
        store.publish("one")
        store.host().run_until_idle()  # cannot hand it over: this step is running

    builder = WorkflowBuilder("order").parallel(
        lambda b: b.wait_for("approved", key="4711", into="first").wait_for("approved", key="4711", into="second"),
        lambda b: b.delay(10).then(publish),
    )
    store = Store(builder)
    store.host().run_until_idle()
    store.clock.advance(11)
    store.host().run_until_idle()
    assert store.data == {}, "the event was handed over during the step"
    store.publish("two")
    store.host().run_until_idle(advance=True)
    assert store.data == {"first": "one", "second": "two"}


def test_host_that_died_before_the_look_leaves_a_wait_that_gets_its_event_also_when_a_step_is_due_then() -> None:
    builder = WorkflowBuilder("order").schedule(1, lambda b: b.then(lambda _: None, name="scheduled"))
    store = Store(builder.wait_for("approved", key="4711", into="first"))
    store.publish("one")
    store.provider.mark_event_processed(store.provider.get_runnable_events(store.clock())[0])
    store.provider.before_look.append(die)
    with pytest.raises(KeyboardInterrupt):
        store.host().run_until_idle()
    store.clock.advance(2 * LEASE)
    store.host().run_until_idle(advance=True)
    assert store.data == {"first": "one"}
