"""A host does at once what is due at once, also on a clock that stands still between two milliseconds."""

from datetime import UTC, datetime

from wfe_postgres import ScheduledCommand, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, Suspend, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock

BETWEEN_TWO = datetime(2026, 1, 1, microsecond=500, tzinfo=UTC)


def test_step_is_retried_when_the_clock_was_advanced_by_its_interval() -> None:
    """Also on a clock that began now, which is rarely a whole millisecond."""
    clock, problems = ManualClock(), [LookupError()]

    def pick(_: StepContext) -> None:
        if problems:
            raise problems.pop()

    definition = WorkflowBuilder("picking").start_with(pick, on_error=Retry(interval=2)).build()
    host = WorkflowHost(InMemoryPersistenceProvider(clock=clock), [definition], clock=clock)
    id = host.start_workflow("picking")
    host.run_until_idle()
    clock.advance(2)
    host.run_until_idle()
    assert host.provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE


def waiting_host() -> tuple[WorkflowHost, str]:
    """A host whose workflow waits for an event; its id."""
    clock = ManualClock(BETWEEN_TWO)
    definition = WorkflowBuilder("order").wait_for("paid", key="4711").build()
    host = WorkflowHost(InMemoryPersistenceProvider(clock=clock), [definition], clock=clock)
    id = host.start_workflow("order")
    host.run_until_idle()
    return host, id


def test_workflow_that_was_given_an_event_is_run_without_advancing_the_clock() -> None:
    host, id = waiting_host()
    host.publish_event("paid", "4711")
    host.run_until_idle()
    assert host.provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE


def test_workflow_that_a_command_wakes_is_due_without_advancing_the_clock() -> None:
    host, id = waiting_host()
    host.provider.schedule_command(ScheduledCommand.process_workflow(id, 0))
    host.run_until_idle()
    assert host.provider.get_runnable_instances(host.clock()) == []
    host.provider.schedule_command(ScheduledCommand.process_workflow(id, 0))
    WorkflowHost(host.provider, clock=host.clock).run_until_idle()  # it does not know the definition
    assert host.provider.get_runnable_instances(host.clock()) == [id]


def test_workflow_that_was_resumed_is_run_without_advancing_the_clock() -> None:
    host, id = waiting_host()
    host.suspend_workflow(id)
    host.publish_event("paid", "4711")
    host.run_until_idle()
    assert host.resume_workflow(id)
    host.run_until_idle()
    assert host.provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE


def test_child_that_was_terminated_is_timed_by_the_clock_and_wakes_its_parent() -> None:
    clock = ManualClock(BETWEEN_TWO)
    child = WorkflowBuilder("child").wait_for("paid", key="4711").build()
    parent = WorkflowBuilder("parent", on_error=Suspend()).sub_workflow("child").build()
    host = WorkflowHost(InMemoryPersistenceProvider(clock=clock), [child, parent], clock=clock)
    id = host.start_workflow("parent")
    host.run_until_idle()
    [waits] = host.provider.get_workflow_instance(id).execution_pointers
    assert waits.event_key is not None
    host.terminate_workflow(waits.event_key)
    host.run_until_idle()
    assert host.provider.get_workflow_instance(waits.event_key).complete_time == BETWEEN_TWO
    assert host.provider.get_workflow_instance(id).status is WorkflowStatus.SUSPENDED
