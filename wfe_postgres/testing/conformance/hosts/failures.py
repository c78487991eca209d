"""Every way out of a step is counted, and a failed workflow is never Complete."""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, Suspend, Terminate, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import LEASE, HostSuite, World

_MOST_LOST = 5


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


def _raising(error: BaseException) -> Callable[[StepContext], Any]:
    def step(_: StepContext) -> None:
        raise error

    return step


def _keep_a_set(context: StepContext) -> None:
    context.data["kept"] = {1, 2}


_WAYS_OUT: dict[str, Callable[[StepContext], Any]] = {
    "exception": _raising(RuntimeError("on purpose")),
    "SystemExit": _raising(SystemExit(1)),
    "CancelledError": _raising(CancelledError()),
    "GeneratorExit": _raising(GeneratorExit()),
    "exception without a text": _raising(_UnprintableError()),
    "NUL in the text": _raising(RuntimeError("a\0b")),
    "data that cannot be stored": _keep_a_set,
    "result that is none": lambda _: "next",
}


class HostFailureConformance(HostSuite):
    """Failed steps, retries, lost tries, resume."""

    def test_a_failed_step_leaves_its_error_and_nothing_else(self, world: World) -> None:
        def fail(context: StepContext) -> None:
            context.data["changed"] = True
            raise ValueError("no card")

        workflow = world.run(WorkflowBuilder("fails").then(fail, on_error=Suspend()), {"before": 1})
        [pointer], [error] = workflow.execution_pointers, world.errors(workflow.id)
        assert workflow.data == {"before": 1}
        assert (pointer.status, pointer.retry_count) == (PointerStatus.FAILED, 1)
        assert "ValueError" in error
        assert "no card" in error

    def test_a_failed_step_is_run_again_after_its_interval(self, world: World) -> None:
        attempts: list[int] = []

        def fail_twice(context: StepContext) -> None:
            attempts.append(context.attempt)
            if len(attempts) < 3:
                raise RuntimeError("on purpose")

        builder = WorkflowBuilder("retried").then(fail_twice, on_error=Retry(10, max_retries=3, backoff=2))
        id = (host := world.host(builder)).start_workflow("retried")
        for seconds, expected in ((0, [1]), (9, [1]), (2, [1, 2]), (18, [1, 2]), (3, [1, 2, 3])):
            world.clock.advance(seconds)
            host.run_until_idle()
            assert attempts == expected
        assert world.status(id) is WorkflowStatus.COMPLETE
        assert len(world.errors(id)) == 2

    def test_a_step_whose_retries_are_used_up_suspends_the_workflow(self, world: World) -> None:
        builder = WorkflowBuilder("fails", on_error=Retry(1, max_retries=2))
        workflow = world.run(builder.then(world.failing("step")).then(world.note("after")), advance=True)
        assert workflow.status is WorkflowStatus.SUSPENDED
        assert workflow.execution_pointers[0].retry_count == 3
        assert (len(world.errors(workflow.id)), world.notes) == (3, [])

    def test_terminate_as_error_behavior_ends_the_workflow(self, world: World) -> None:
        workflow = world.run(WorkflowBuilder("fails").then(world.failing("step"), on_error=Terminate()))
        assert workflow.status is WorkflowStatus.TERMINATED

    @pytest.mark.parametrize("way", _WAYS_OUT)
    def test_whatever_a_step_ends_with_is_a_failure_and_stops_no_other(self, world: World, way: str) -> None:
        builder = WorkflowBuilder("fails").then(_WAYS_OUT[way], name="step", on_error=Suspend())
        host = world.host(builder.then(world.note("after")), WorkflowBuilder("other").then(world.note("other")))
        id = host.start_workflow("fails")
        host.start_workflow("other")
        host.run_until_idle()
        assert world.status(id) is WorkflowStatus.SUSPENDED
        assert world.notes == ["other"]
        assert len(world.errors(id)) == 1

    @pytest.mark.parametrize("skip_failed", [False, True])
    def test_a_resumed_workflow_runs_its_failed_step_or_what_follows(self, world: World, skip_failed: bool) -> None:
        builder = WorkflowBuilder("fails", on_error=Suspend())
        builder.then(world.note("before")).then(world.failing("failed", times=1)).then(world.note("after"))
        id = (host := world.host(builder)).start_workflow("fails")
        host.run_until_idle()
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.SUSPENDED, ["before"])
        assert host.resume_workflow(id, skip_failed=skip_failed)
        host.run_until_idle(advance=True)
        assert world.notes == (["before", "after"] if skip_failed else ["before", "failed", "after"])
        assert world.status(id) is WorkflowStatus.COMPLETE

    def test_a_workflow_that_is_made_runnable_with_a_failed_step_is_not_completed(self, world: World) -> None:
        workflow = world.run(WorkflowBuilder("fails").then(world.failing("step"), on_error=Suspend()))
        workflow.status, workflow.next_execution = WorkflowStatus.RUNNABLE, 0
        world.provider.persist_workflow(workflow)
        world.host(WorkflowBuilder("fails").then(world.note("step"))).run_until_idle(advance=True)
        assert world.status(workflow.id) is WorkflowStatus.SUSPENDED

    def test_a_failed_branch_is_not_passed_over(self, world: World) -> None:
        builder = WorkflowBuilder("branches", on_error=Suspend())
        builder.parallel(lambda b: b.then(world.note("good")), lambda b: b.then(world.failing("bad", times=1))).then(
            world.note("after")
        )
        id = (host := world.host(builder)).start_workflow("branches")
        host.run_until_idle(advance=True)
        assert world.status(id) is WorkflowStatus.SUSPENDED
        host.resume_workflow(id)
        host.run_until_idle(advance=True)
        assert sorted(world.notes[:-1]) == ["bad", "good"]
        assert world.notes[-1] == "after"

    def test_a_step_that_kills_its_host_is_repeated_and_counted_and_fails_in_the_end(self, world: World) -> None:
        def kill(_: StepContext) -> None:
            world.notes.append("killed")
            raise KeyboardInterrupt

        builder = WorkflowBuilder("kills").then(kill, on_error=Suspend())
        id = world.host(builder).start_workflow("kills")
        for turn in range(1, _MOST_LOST + 1):
            with pytest.raises(KeyboardInterrupt):
                world.host(builder).run_until_idle()
            assert len(world.errors(id)) == turn - 1
            world.clock.advance(LEASE / 2)
            world.host(builder).run_until_idle()  # the lease has not expired
            assert len(world.notes) == turn
            world.clock.advance(LEASE)
        world.host(builder).run_until_idle(advance=True)
        assert (world.status(id), len(world.notes)) == (WorkflowStatus.SUSPENDED, _MOST_LOST)
        assert len(world.errors(id)) >= _MOST_LOST
        assert world.stored(id).execution_pointers[0].retry_count == 1
