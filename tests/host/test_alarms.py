"""`run_until_idle(advance=True)` goes from alarm to alarm, whatever else stays due."""

from datetime import timedelta
from typing import Any

import pytest

from tests.host.kit import branch, fail, note
from wfe_postgres import Event, EventSubscription, PersistenceError, ScheduledCommand, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock


class Partly(InMemoryPersistenceProvider):
    """A store in which some workflows and events cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: set[str] = set()

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        return super().get_workflow_instance(self._checked_id(id))

    def get_event(self, id: str) -> Event:
        """See `EventRepository`."""
        return super().get_event(self._checked_id(id))

    def _checked_id(self, id: str) -> str:
        if id in self.unreadable:
            raise PersistenceError("it cannot be read")
        return id


def sleeper(seconds: float, id: str = "sleeper") -> WorkflowDefinition:
    """Sleeps and is done."""
    return WorkflowBuilder(id).delay(seconds).then(note("woke")).build()


def host_of(*definitions: WorkflowDefinition) -> tuple[WorkflowHost, Partly, ManualClock]:
    """A host, its store, and its clock."""
    provider, clock = Partly(), ManualClock()
    return WorkflowHost(provider, definitions, clock=clock), provider, clock


def start(host: WorkflowHost, id: str = "sleeper") -> str:
    """A new workflow."""
    return host.start_workflow(id, {"log": []})


def complete(host: WorkflowHost, *ids: str) -> bool:
    """Whether all of them are Complete."""
    return all(host.provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE for id in ids)


def test_workflows_with_different_alarms_run_in_the_order_of_their_alarms() -> None:
    order: list[tuple[str, float]] = []
    clock = ManualClock()
    began = clock()

    def ran(name: str) -> Any:
        return lambda context: order.append((name, (context.now - began).total_seconds()))

    builders = {
        "delay": WorkflowBuilder("delay").delay(30).then(ran("delay")),
        "timeout": WorkflowBuilder("timeout").wait_for(
            "never", key="1", timeout=20, on_timeout=branch(ran("timeout"), name="timeout")
        ),
        "retry": WorkflowBuilder("retry", on_error=Retry(10)).then(fail(1)).then(ran("retry")),
        "schedule": WorkflowBuilder("schedule").schedule(40, branch(ran("schedule"), name="schedule")),
        "recur": WorkflowBuilder("recur").recur(
            25, branch(ran("recur"), name="recur"), until=lambda _: sum(name == "recur" for name, _ in order) == 3
        ),
    }
    definitions = [builder.build() for builder in builders.values()]
    host = WorkflowHost(InMemoryPersistenceProvider(), definitions, clock=clock)
    ids = [start(host, id) for id in builders]
    host.run_until_idle(advance=True)
    assert complete(host, *ids)
    expected = [("retry", 10), ("timeout", 20), ("recur", 25), ("delay", 30), ("schedule", 40)]
    assert [(name, round(seconds)) for name, seconds in order] == [*expected, ("recur", 50), ("recur", 75)]


def test_alarm_behind_a_workflow_that_stays_due_is_found() -> None:
    host, provider, _ = host_of(sleeper(10))
    stuck = start(host)
    provider.unreadable.add(stuck)
    id = start(host)
    host.run_until_idle(advance=True)
    assert complete(host, id)


def test_alarm_behind_a_sleeping_workflow_that_cannot_be_read_is_found() -> None:
    host, provider, clock = host_of(sleeper(10))
    stuck = start(host)
    host.run_until_idle()
    provider.unreadable.add(stuck)
    clock.advance(5)
    id = start(host)
    host.run_until_idle(advance=True)
    assert complete(host, id)


def test_event_of_the_future_behind_one_that_stays_due_is_found() -> None:
    waiting = WorkflowBuilder("waiting").wait_for("paid", key="1").build()
    host, provider, clock = host_of(waiting)
    id = start(host, "waiting")
    host.run_until_idle()
    provider.unreadable.add(provider.create_event(Event("other", "1", event_time=clock())))
    provider.create_event(Event("paid", "1", event_time=clock() + timedelta(seconds=10)))
    host.run_until_idle(advance=True)
    assert complete(host, id)


def test_command_of_the_future_is_an_alarm() -> None:
    host, provider, clock = host_of(WorkflowBuilder("never").then(note("ran")).build())
    id = start(host, "never")
    workflow = provider.get_workflow_instance(id)
    workflow.next_execution = None
    provider.persist_workflow(workflow)
    provider.schedule_command(ScheduledCommand.process_workflow(id, round(clock().timestamp() * 1000) + 5000))
    host.run_until_idle(advance=True)
    assert complete(host, id)


def test_workflow_of_a_host_that_died_is_due_at_the_end_of_its_lease() -> None:
    def die_once(_: StepContext) -> None:
        if not died:
            died.append(True)
            raise KeyboardInterrupt

    died: list[bool] = []
    host, provider, clock = host_of(WorkflowBuilder("mortal").then(die_once).build(), sleeper(3))
    provider.unreadable.add(start(host))
    id = start(host, "mortal")
    began = clock()
    with pytest.raises(KeyboardInterrupt):
        host.run_until_idle()
    host.run_until_idle(advance=True)
    assert complete(host, id)
    assert clock() >= began + timedelta(seconds=30)


@pytest.mark.timeout(20)
def test_event_for_a_workflow_that_cannot_be_read_does_not_move_the_clock_without_an_end() -> None:
    host, provider, clock = host_of(sleeper(10))
    stuck = start(host)
    host.run_until_idle()
    provider.unreadable.add(stuck)
    provider.create_event_subscription(EventSubscription(stuck, 0, "pointer", "paid", "1", clock()))
    host.publish_event("paid", "1")
    id = start(host)
    host.run_until_idle(advance=True)
    assert complete(host, id)
