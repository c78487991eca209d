"""Suspend, resume and terminate, also while a step is running."""

import pytest

from wfe_postgres.contract.errors import WorkflowNotFoundError
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, World


class HostStatusConformance(HostSuite):
    """What an operator does to a workflow."""

    @pytest.mark.parametrize("verb", ["suspend", "terminate"])
    def test_suspend_and_terminate_win_against_a_running_step(self, world: World, verb: str) -> None:
        def change(context: StepContext) -> None:
            context.data["changed"] = True
            if not world.notes:
                world.notes.append("changed")
                assert getattr(world.host(builder), f"{verb}_workflow")(context.workflow.id)

        builder = WorkflowBuilder("changes").then(change).then(world.note("after"))
        id = (host := world.host(builder)).start_workflow("changes")
        host.run_until_idle(advance=True)
        status = WorkflowStatus.SUSPENDED if verb == "suspend" else WorkflowStatus.TERMINATED
        assert (world.status(id), world.notes) == (status, ["changed"])
        assert world.stored(id).data == {}

    def test_a_step_that_suspend_interrupted_is_run_again_after_resume(self, world: World) -> None:
        def suspend(context: StepContext) -> None:
            world.notes.append("run")
            if len(world.notes) == 1:
                host.suspend_workflow(context.workflow.id)

        host = world.host(WorkflowBuilder("suspends").then(suspend).then(world.note("after")))
        id = host.start_workflow("suspends")
        host.run_until_idle()
        assert host.resume_workflow(id)
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["run", "run", "after"])

    def test_terminate_removes_the_waits_and_alarms(self, world: World) -> None:
        builder = WorkflowBuilder("waits").wait_for("paid", key="1", timeout=10).then(world.note("after"))
        id = (host := world.host(builder)).start_workflow("waits")
        host.run_until_idle()
        assert host.terminate_workflow(id)
        assert world.provider.get_subscriptions("paid", "1", world.clock()) == []
        host.publish_event("paid", "1")
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.TERMINATED, [])

    def test_a_verb_says_whether_the_workflow_was_in_a_status_for_it(self, world: World) -> None:
        host = world.host(WorkflowBuilder("waits").wait_for("paid", key="1"))
        id = host.start_workflow("waits")
        answers = [host.resume_workflow(id), host.suspend_workflow(id), host.suspend_workflow(id)]
        answers += [host.resume_workflow(id), host.terminate_workflow(id), host.terminate_workflow(id)]
        assert answers == [False, True, False, True, True, False]
        assert (host.suspend_workflow(id), host.resume_workflow(id)) == (False, False)

    @pytest.mark.parametrize("verb", ["suspend", "resume", "terminate"])
    def test_a_verb_for_an_unknown_workflow_raises(self, world: World, verb: str) -> None:
        with pytest.raises(WorkflowNotFoundError):
            getattr(world.host(), f"{verb}_workflow")("unknown")
