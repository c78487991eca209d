"""What was completed in a saga that fails is compensated in reverse order."""

from collections.abc import Callable

import pytest

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.host import ErrorBehavior, Retry, StepContext, Suspend, Terminate, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, World


def _trip(world: World, fail: Callable[[StepContext], None], on_error: ErrorBehavior | None = None) -> WorkflowBuilder:
    return (
        WorkflowBuilder("trip", on_error=Retry(1, max_retries=1))
        .saga(
            lambda b: (
                b.then(world.note("flight"), compensate_with=world.note("cancel flight"))
                .then(world.note("map"))
                .then(world.note("car"), compensate_with=world.note("cancel car"))
                .then(fail)
                .then(world.note("never"))
            ),
            on_error=on_error,
        )
        .then(world.note("after"))
    )


_DONE = ["flight", "map", "car"]
_UNDONE = ["cancel car", "cancel flight"]


class HostSagaConformance(HostSuite):
    """Sagas and compensation."""

    def test_a_failed_saga_is_compensated_in_reverse_order_and_the_workflow_goes_on(self, world: World) -> None:
        workflow = world.run(_trip(world, world.failing("hotel")), advance=True)
        assert (workflow.status, world.notes) == (WorkflowStatus.COMPLETE, [*_DONE, *_UNDONE, "after"])
        pointers = world.pointers(workflow.id)
        assert {pointers[it] for it in (*_DONE, "hotel")} == {PointerStatus.COMPENSATED}
        assert len(world.errors(workflow.id)) == 2  # the try and the retry

    def test_a_saga_that_succeeds_is_not_compensated(self, world: World) -> None:
        workflow = world.run(_trip(world, world.failing("hotel", times=1)), advance=True)
        assert (workflow.status, world.notes) == (WorkflowStatus.COMPLETE, [*_DONE, "hotel", "never", "after"])

    def test_retry_of_a_saga_runs_it_again_from_its_start(self, world: World) -> None:
        workflow = world.run(_trip(world, world.failing("hotel", times=2), Retry(10, max_retries=1)), advance=True)
        assert workflow.status is WorkflowStatus.COMPLETE
        assert world.notes == [*_DONE, *_UNDONE, *_DONE, "hotel", "never", "after"]

    @pytest.mark.parametrize("on_error", [Suspend(), Terminate()], ids=["suspend", "terminate"])
    def test_the_error_behavior_of_a_saga_follows_its_compensation(self, world: World, on_error: ErrorBehavior) -> None:
        workflow = world.run(_trip(world, world.failing("hotel"), on_error), advance=True)
        suspends = isinstance(on_error, Suspend)
        assert workflow.status is (WorkflowStatus.SUSPENDED if suspends else WorkflowStatus.TERMINATED)
        assert world.notes == [*_DONE, *_UNDONE]

    def test_a_compensation_that_fails_is_retried_and_not_passed_over(self, world: World) -> None:
        builder = WorkflowBuilder("trip", on_error=Retry(1, max_retries=1)).saga(
            lambda b: (
                b.then(world.note("flight"), compensate_with=world.note("cancel flight"))
                .then(world.note("car"), compensate_with=world.failing("cancel car", times=2))
                .then(world.failing("hotel"))
            )
        )
        id = (host := world.host(builder)).start_workflow("trip")
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.SUSPENDED, ["flight", "car"])
        host.resume_workflow(id)
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["flight", "car", *_UNDONE])
