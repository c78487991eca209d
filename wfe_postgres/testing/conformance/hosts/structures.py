"""The control structures of a definition."""

from collections.abc import Callable
from typing import Any

import pytest

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.host import ActivityFailedError, ExecutionResult, StepContext, Suspend, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, World


class HostStructureConformance(HostSuite):
    """Decisions, loops, branches, sub-workflows and activities."""

    def test_decide_runs_the_branch_of_the_case_or_the_other(self, world: World) -> None:
        def noting(text: str) -> Callable[[WorkflowBuilder], object]:
            return lambda b: b.then(world.note(text))

        builder = WorkflowBuilder("decides").decide(
            lambda context: context.data["color"], {"red": noting("r"), "blue": noting("b")}, noting("other")
        )
        for color in ("blue", "red", "green"):
            world.run(builder, {"color": color})
        assert world.notes == ["b", "r", "other"]

    def test_if_and_while_run_their_branches_as_their_conditions_hold(self, world: World) -> None:
        builder = (
            WorkflowBuilder("loops")
            .if_do(lambda _: False, lambda b: b.then(world.note("never")))
            .if_do(lambda _: True, lambda b: b.then(world.note("once")))
            .while_do(lambda _: world.notes.count("turn") < 3, lambda b: b.then(world.note("turn")))
            .then(world.note("after"))
        )
        world.run(builder)
        assert world.notes == ["once", "turn", "turn", "turn", "after"]

    @pytest.mark.parametrize("parallel", [True, False])
    def test_for_each_runs_its_branch_for_each_item(self, world: World, parallel: bool) -> None:
        builder = WorkflowBuilder("items").for_each(
            [1, 2], lambda b: b.then(world.note("a")).delay(1).then(world.note("b")), parallel=parallel
        )
        world.run(builder.then(world.note("after")), advance=True)
        in_turn = ["a 1", "b 1", "a 2", "b 2"]
        assert world.notes == [*(["a 1", "a 2", "b 1", "b 2"] if parallel else in_turn), "after"]

    def test_parallel_goes_on_when_each_branch_has_ended(self, world: World) -> None:
        builder = WorkflowBuilder("parallel").parallel(
            lambda b: b.delay(10).then(world.note("slow")), lambda b: b.then(world.note("quick"))
        )
        world.run(builder.then(world.note("after")), advance=True)
        assert world.notes == ["quick", "slow", "after"]

    def test_end_workflow_completes_it_and_cancels_the_other_branches(self, world: World) -> None:
        builder = WorkflowBuilder("ends").parallel(
            lambda b: b.wait_for("paid", key="1").then(world.note("never")), lambda b: b.delay(5).end_workflow()
        )
        workflow = world.run(builder.then(world.note("never")), advance=True)
        assert (workflow.status, world.notes) == (WorkflowStatus.COMPLETE, [])
        assert world.pointers(workflow.id)["WaitFor"] is PointerStatus.CANCELLED
        assert world.provider.get_subscriptions("paid", "1", world.clock()) == []

    def test_a_step_that_persists_is_run_again_with_what_it_kept(self, world: World) -> None:
        def copy(context: StepContext) -> ExecutionResult:
            copied = (context.persistence_data or 0) + 100
            return ExecutionResult.persist(copied) if copied < 300 else ExecutionResult.outcome(copied)

        assert world.run(WorkflowBuilder("copies").then(copy)).execution_pointers[0].outcome == 300

    def test_a_parent_goes_on_with_the_data_of_its_child(self, world: World) -> None:
        def number(context: StepContext) -> None:
            context.data["number"] = "R-1"

        host = world.host(
            WorkflowBuilder("invoice").delay(5).then(number),
            WorkflowBuilder("billing").sub_workflow("invoice", data={"amount": 10}, into="invoice"),
        )
        id = host.start_workflow("billing")
        host.run_until_idle(advance=True)
        assert world.stored(id).data == {"invoice": {"amount": 10, "number": "R-1"}}
        assert world.status(id) is WorkflowStatus.COMPLETE

    def test_a_child_that_is_terminated_fails_the_step_of_its_parent(self, world: World) -> None:
        children: list[str] = []

        def enter(context: StepContext) -> None:
            children.append(context.workflow.id)

        host = world.host(
            WorkflowBuilder("child").then(enter).delay(1_000),
            WorkflowBuilder("parent", on_error=Suspend()).sub_workflow("child"),
        )
        id = host.start_workflow("parent")
        host.run_until_idle()
        assert world.stored(children[0]).root_workflow_id == id
        host.terminate_workflow(children[0])
        host.run_until_idle(advance=True)
        assert (world.status(id), len(world.errors(id))) == (WorkflowStatus.SUSPENDED, 1)

    @pytest.mark.parametrize("succeeds", [True, False])
    def test_an_activity_ends_with_what_its_worker_reports(self, world: World, succeeds: bool) -> None:
        builder = WorkflowBuilder("review", on_error=Suspend())
        builder.activity("review", parameters={"text": "hello"}, into="verdict")
        id = (host := world.host(builder)).start_workflow("review")
        host.run_until_idle()
        pending: Any = host.get_pending_activity("review", "ann")
        assert pending.parameters == {"text": "hello"}
        assert host.get_pending_activity("review", "bob") is None
        if succeeds:
            host.submit_activity_success(pending.token, "good")
        else:
            host.submit_activity_failure(pending.token, "illegible")
        host.run_until_idle()
        assert world.stored(id).data == ({"verdict": "good"} if succeeds else {})
        assert world.status(id) is (WorkflowStatus.COMPLETE if succeeds else WorkflowStatus.SUSPENDED)
        assert succeeds or ActivityFailedError.__name__ in world.errors(id)[0]
