"""A workflow with a failed step never becomes Complete without it, and saves of others win against a running step."""

from collections.abc import Callable

import pytest

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, note, times_of, wait_at
from tests.host_faults.kit.local import errors_of, host_of, pointer_of, run, subscriptions_of
from wfe_postgres import (
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.host import ExecutionResult, Retry, StepContext, Suspend, WorkflowBuilder, WorkflowHost

COMMANDS = "SELECT data FROM wfc.scheduled_commands"


def fail_at_first(context: StepContext) -> None:
    """Fails at the first run."""
    note(context, "try")
    if times_of(context, "try") == 1:
        raise RuntimeError("at first")


def fail_for_b(context: StepContext) -> None:
    """Fails at the first run for the item b."""
    note(context, f"branch {context.item}")
    if context.item == "b" and times_of(context, "branch b") == 1:
        raise RuntimeError("at first")


def after(context: StepContext) -> None:
    """A step that ends."""
    note(context, "after")


def wait_for_gate(context: StepContext) -> None:
    """A step that runs until the test opens the gate."""
    note(context, "began")
    context.data["result"] = "late"
    wait_at("gate")
    note(context, "ended")


ONE = WorkflowBuilder("one", on_error=Suspend()).start_with(fail_at_first).then(after).build()
LAST = WorkflowBuilder("last", on_error=Suspend()).start_with(after).then(fail_at_first).build()
FAN_OUT = (
    WorkflowBuilder("fan out", on_error=Suspend())
    .for_each(lambda context: ["a", "b", "c"], lambda branch: branch.start_with(fail_for_b))
    .then(after)
    .build()
)
IN_ORDER = (
    WorkflowBuilder("in order", on_error=Suspend())
    .for_each(lambda context: ["a", "b", "c"], lambda branch: branch.start_with(fail_for_b), parallel=False)
    .then(after)
    .build()
)
PARALLEL = (
    WorkflowBuilder("parallel", on_error=Suspend())
    .parallel(lambda it: it.start_with(fail_at_first), lambda it: it.start_with(after))
    .then(after)
    .build()
)
DEFINITIONS = {it.id: it for it in (ONE, LAST, FAN_OUT, IN_ORDER, PARALLEL)}
EXPECTED = {
    "one": ["after", "try", "try"],
    "last": ["after", "try", "try"],
    "fan out": ["after", "branch a", "branch b", "branch b", "branch c"],
    "in order": ["after", "branch a", "branch b", "branch b", "branch c"],
    "parallel": ["after", "after", "try", "try"],
}


def suspended(provider: PostgresPersistenceProvider, id: str) -> tuple[WorkflowHost, WorkflowInstance]:
    """Return a host, and a workflow that was suspended because a step has failed."""
    host = host_of(provider, DEFINITIONS[id])
    workflow = host.start_workflow(id)
    host.run_until_idle()
    found = provider.get_workflow_instance(workflow)
    assert found.status is WorkflowStatus.SUSPENDED
    assert [it.status for it in found.execution_pointers].count(PointerStatus.FAILED) == 1
    return host, found


@pytest.mark.parametrize("way", ["host", "provider"])
def test_resumed_workflow_runs_its_failed_step_before_it_goes_on(
    provider: PostgresPersistenceProvider, effects: Effects, way: str
) -> None:
    """`resume` by the host, or by the command or the application through the provider."""
    for id in DEFINITIONS:
        host, workflow = suspended(provider, id)
        resume: Callable[[str], bool] = (host if way == "host" else provider).resume_workflow
        assert resume(workflow.id)
        host.run_until_idle()
        workflow = provider.get_workflow_instance(workflow.id)
        assert workflow.status is WorkflowStatus.COMPLETE, id
        assert sorted(effects.order(workflow.id)) == EXPECTED[id]
        assert {it.status for it in workflow.execution_pointers} == {PointerStatus.COMPLETE}, id


def test_workflow_resumed_without_its_failed_steps_goes_on_after_them(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    for id in DEFINITIONS:
        host, workflow = suspended(provider, id)
        assert host.resume_workflow(workflow.id, skip_failed=True)
        host.run_until_idle()
        workflow = provider.get_workflow_instance(workflow.id)
        assert workflow.status is WorkflowStatus.COMPLETE, id
        expected = EXPECTED[id].copy()
        expected.remove("branch b" if "branch b" in expected else "try")
        assert sorted(effects.order(workflow.id)) == expected
        assert [it.status for it in workflow.execution_pointers].count(PointerStatus.SKIPPED) == 1, id


def test_workflow_that_a_foreign_host_made_runnable_with_a_failed_step_does_not_go_on_without_it(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    """A save that sets the status alone, as hosts of other versions do."""
    for id in DEFINITIONS:
        host, workflow = suspended(provider, id)
        before = effects.order(workflow.id)
        workflow.status, workflow.next_execution = WorkflowStatus.RUNNABLE, 0
        provider.persist_workflow(workflow)
        host.run_until_idle()
        assert provider.get_workflow_instance(workflow.id).status is WorkflowStatus.SUSPENDED, id
        assert effects.order(workflow.id) == before


def test_step_fails_again_after_resume_and_the_workflow_is_suspended_again(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    def fail(context: StepContext) -> None:
        note(context, "fail")
        raise RuntimeError("always")

    definition = WorkflowBuilder("fails").start_with(fail, on_error=Retry(0, max_retries=1)).then(after).build()
    workflow = run(provider, definition)
    host = host_of(provider, definition)
    for turn in range(1, 4):
        assert provider.get_workflow_instance(workflow.id).status is WorkflowStatus.SUSPENDED
        assert effects.order() == ["fail"] * 2 * turn
        assert host.resume_workflow(workflow.id)
        host.run_until_idle()
    assert len(errors_of(sql, workflow)) == 8


BUSY = (
    WorkflowBuilder("busy")
    .parallel(
        lambda it: it.wait_for("bell", key="never"),
        lambda it: it.start_with(wait_for_gate).then(after),
    )
    .then(after)
    .build()
)


@pytest.mark.parametrize("way", ["host", "provider"])
@pytest.mark.parametrize("verb", ["terminate", "suspend"])
def test_intervention_during_a_step_wins_over_its_save(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled, verb: str, way: str
) -> None:
    with host_of(provider, BUSY) as host:
        id = host.start_workflow("busy", {"result": "none"})
        effects.wait_for("began")
        provider.schedule_command(ScheduledCommand.process_workflow(id, 2**52))
        assert getattr(host if way == "host" else provider, f"{verb}_workflow")(id)
        effects.open("gate")
        effects.wait_for("ended")
    workflow = provider.get_workflow_instance(id)
    ended = verb == "terminate"
    assert workflow.status is (WorkflowStatus.TERMINATED if ended else WorkflowStatus.SUSPENDED)
    assert workflow.data == {"result": "none"}
    assert effects.order() == ["began", "ended"]
    assert (subscriptions_of(sql, workflow), len(sql(COMMANDS))) == ((0, 0) if ended else (1, 1))


def test_workflow_suspended_during_a_step_runs_that_step_again_when_resumed(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    definition = WorkflowBuilder("busy").start_with(wait_for_gate).then(after).build()
    with host_of(provider, definition) as host:
        id = host.start_workflow("busy")
        effects.wait_for("began")
        assert host.suspend_workflow(id)
        effects.open("gate")
        effects.wait_for("ended")
        assert host.resume_workflow(id)
        [workflow] = settled([id])
    assert effects.counts() == {"began": 2, "ended": 2, "after": 1}
    assert pointer_of(workflow, "wait_for_gate").retry_count == 0
    assert errors_of(sql, workflow) == []


def end_it(context: StepContext) -> None:
    """A branch's step before the workflow's end."""
    note(context, "end")


ENDINGS = {
    "timeout": WorkflowBuilder("timeout").wait_for("bell", key="k", timeout=0, on_timeout=lambda it: it.then(after)),
    "end_workflow": WorkflowBuilder("end_workflow").parallel(
        lambda it: it.wait_for("bell", key="k"), lambda it: it.start_with(end_it).end_workflow()
    ),
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_wait_that_is_ended_otherwise_leaves_no_subscription(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, kind: str
) -> None:
    workflow = run(provider, ENDINGS[kind].build())
    assert workflow.status is WorkflowStatus.COMPLETE
    assert subscriptions_of(sql, workflow) == 0
    assert PointerStatus.WAITING_FOR_EVENT not in {it.status for it in workflow.execution_pointers}


LONG = 1000.0
GOING_ON = {
    "timeout with a branch": WorkflowBuilder("waits").wait_for(
        "bell", key="k", timeout=0, on_timeout=lambda branch: branch.delay(LONG)
    ),
    "timeout to be retried": WorkflowBuilder("waits", on_error=Retry(LONG)).wait_for("bell", key="k", timeout=0),
}


@pytest.mark.parametrize("kind", GOING_ON)
def test_wait_that_timed_out_leaves_no_subscription_while_the_workflow_goes_on(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, kind: str
) -> None:
    workflow = run(provider, GOING_ON[kind].build())
    assert workflow.status is WorkflowStatus.RUNNABLE
    assert PointerStatus.SLEEPING in {it.status for it in workflow.execution_pointers}
    assert subscriptions_of(sql, workflow) == 0


def test_result_of_a_step_of_one_version_is_never_that_of_another(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    """The definition was changed under a running workflow: another step has its number."""

    def sleep(context: StepContext) -> ExecutionResult:
        return ExecutionResult.next() if context.persistence_data else ExecutionResult.sleep(0.0, True)

    host = host_of(provider, WorkflowBuilder("changed").start_with(sleep).then(after).build())
    id = host.start_workflow("changed")
    changed = host_of(provider, WorkflowBuilder("changed").start_with(after).then(sleep).build())
    changed.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert effects.order() == []
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert len(errors_of(sql, workflow)) == 1
    assert len([it for it in caplog.records if id in it.getMessage()]) == 1
