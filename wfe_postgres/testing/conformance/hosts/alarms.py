"""What is due later: delays, schedules, and the commands that others schedule."""

import pytest

from wfe_postgres.contract.models import ScheduledCommand, WorkflowStatus
from wfe_postgres.host import ExecutionResult, Retry, StepContext, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, Watched, World


class HostAlarmConformance(HostSuite):
    """Alarms and scheduled commands."""

    def test_a_delay_ends_when_its_time_has_come(self, world: World) -> None:
        builder = WorkflowBuilder("sleeps").then(world.note("before")).delay(10).then(world.note("after"))
        id = (host := world.host(builder)).start_workflow("sleeps")
        for seconds, expected in ((0, ["before"]), (9, ["before"]), (2, ["before", "after"])):
            world.clock.advance(seconds)
            host.run_until_idle()
            assert world.notes == expected
        assert world.status(id) is WorkflowStatus.COMPLETE

    def test_what_sleeps_is_neither_due_nor_saved(self, world: World) -> None:
        watched = Watched(world.provider)
        host = world.host(WorkflowBuilder("sleeps").delay(10).then(world.note("after")), provider=watched)
        host.start_workflow("sleeps")
        host.run_until_idle()
        watched.calls.clear()
        world.clock.advance(5)
        host.run_until_idle()
        assert world.provider.get_runnable_instances(world.clock()) == []
        assert (watched.saves, watched.loads) == (0, 0)

    def test_a_step_says_when_it_is_run_again_and_finds_what_it_kept(self, world: World) -> None:
        def poll(context: StepContext) -> ExecutionResult:
            world.notes.append(str(context.persistence_data))
            kept = (context.persistence_data or 0) + 1
            return ExecutionResult.sleep(60, kept) if kept < 3 else ExecutionResult.next()

        workflow = world.run(WorkflowBuilder("polls").then(poll), advance=True)
        assert (workflow.status, world.notes) == (WorkflowStatus.COMPLETE, ["None", "1", "2"])

    def test_each_alarm_of_many_workflows_comes_at_its_time(self, world: World) -> None:
        began, came = world.clock(), list[int]()

        def come(_: StepContext) -> None:
            came.append(round((world.clock() - began).total_seconds()))

        builders = [WorkflowBuilder(f"{it}").delay(it).then(come) for it in (30, 10, 50)]
        builders.append(WorkflowBuilder("20", on_error=Retry(20)).then(world.failing("20", times=1)).then(come))
        builders.append(WorkflowBuilder("40").schedule(40, lambda b: b.then(come)))
        builders.append(WorkflowBuilder("5").wait_for("no", key="1", timeout=5, on_timeout=lambda b: b.then(come)))
        host = world.host(*builders)
        for builder in builders:
            host.start_workflow(builder.build().id)
        host.run_until_idle(advance=True)
        assert came == [5, 10, 20, 30, 40, 50]

    def test_the_main_path_does_not_wait_for_a_schedule_and_the_workflow_does(self, world: World) -> None:
        builder = WorkflowBuilder("schedules").schedule(10, lambda b: b.then(world.note("scheduled")))
        id = (host := world.host(builder.then(world.note("main")))).start_workflow("schedules")
        host.run_until_idle()
        assert (world.status(id), world.notes) == (WorkflowStatus.RUNNABLE, ["main"])
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["main", "scheduled"])

    def test_recur_repeats_its_branch_until_the_condition_holds(self, world: World) -> None:
        builder = WorkflowBuilder("recurs").recur(
            10, lambda b: b.then(world.note("again")), until=lambda _: world.notes.count("again") == 3
        )
        began = world.clock()
        workflow = world.run(builder.then(world.note("main")), advance=True)
        assert (workflow.status, world.notes) == (WorkflowStatus.COMPLETE, ["main", "again", "again", "again"])
        assert (world.clock() - began).total_seconds() == pytest.approx(40, abs=1)

    def test_a_command_for_a_workflow_makes_it_due(self, world: World) -> None:
        builder = WorkflowBuilder("never polled").then(world.note("ran"))
        workflow = world.stored((host := world.host(builder)).start_workflow("never polled"))
        workflow.next_execution = None
        world.provider.persist_workflow(workflow)
        host.run_until_idle()
        assert world.notes == []
        world.provider.schedule_command(ScheduledCommand.process_workflow(workflow.id, 0))
        host.run_until_idle()
        assert world.notes == ["ran"]

    def test_a_command_for_an_event_hands_it_over(self, world: World) -> None:
        host = world.host(WorkflowBuilder("waits").wait_for("paid", key="1"))
        id = host.start_workflow("waits")
        host.run_until_idle()
        event = host.publish_event("paid", "1")
        world.provider.mark_event_processed(event)
        world.provider.schedule_command(ScheduledCommand.process_event(event, 0))
        host.run_until_idle()
        assert world.status(id) is WorkflowStatus.COMPLETE

    def test_a_command_for_what_does_not_exist_is_done(self, world: World) -> None:
        world.provider.schedule_command(ScheduledCommand.process_workflow("unknown", 0))
        world.provider.schedule_command(ScheduledCommand.process_event("unknown", 0))
        world.host().run_until_idle()
        left: list[ScheduledCommand] = []
        world.provider.process_commands(world.clock(), left.append)
        assert left == []
