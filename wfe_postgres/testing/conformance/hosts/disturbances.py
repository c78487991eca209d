"""A database that is unavailable, workflows that cannot be read, and hosts that stop."""

import time
from typing import Any

import pytest

from wfe_postgres.contract.errors import OutcomeUnknownError, PersistenceError
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, Watched, World, started


def _outage() -> PersistenceError:
    return PersistenceError("the connection was lost", retryable=True)


class HostDisturbanceConformance(HostSuite):
    """Outages, unreadable workflows, stop."""

    @pytest.mark.parametrize("after", [False, True])
    def test_a_step_that_ended_during_an_outage_is_saved_and_not_repeated(self, world: World, after: bool) -> None:
        watched = Watched(world.provider)
        failures = iter(range(3))

        def fail(name: str, _: Any = None) -> None:
            if world.notes and name.startswith("persist_workflow"):
                for _ in failures:
                    raise OutcomeUnknownError("nobody knows") if after else _outage()

        if after:
            watched.after = fail
        else:
            watched.before = fail
        builder = WorkflowBuilder("saved").then(world.note("first")).then(world.note("second"))
        id = (host := world.host(builder, provider=watched)).start_workflow("saved")
        host.run_until_idle()
        assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["first", "second"])

    def test_a_started_host_goes_on_after_an_outage(self, world: World) -> None:
        watched = Watched(world.provider)
        outage = [True]

        def fail(_: str, __: Any) -> None:
            if outage:
                raise _outage()

        builder = WorkflowBuilder("waits for it").then(world.note("ran"))
        host = world.running_host(builder, provider=watched)
        with started(host):
            watched.before = fail
            id = world.running_host(builder).start_workflow("waits for it")
            time.sleep(0.3)
            outage.clear()
            world.wait_for([id])
        assert world.notes == ["ran"]

    def test_a_workflow_that_cannot_be_read_keeps_no_other_from_its_turn(self, world: World) -> None:
        watched = Watched(world.provider)
        host = world.host(WorkflowBuilder("runs").then(world.note("ran")), provider=watched)
        bad = host.start_workflow("runs")
        world.clock.advance(1)
        good = host.start_workflow("runs")

        def fail(name: str, arguments: tuple[Any, ...]) -> None:
            if name.startswith("get_workflow_instance") and arguments and bad in arguments[0]:
                raise PersistenceError("it cannot be read")

        watched.before = fail
        host.run_until_idle()
        assert (world.status(good), world.status(bad)) == (WorkflowStatus.COMPLETE, WorkflowStatus.RUNNABLE)

    def test_stop_saves_the_step_that_is_running_and_begins_no_other(self, world: World) -> None:
        def last(_: StepContext) -> None:
            world.notes.append("began")
            time.sleep(0.5)
            world.notes.append("ended")

        builder = WorkflowBuilder("stops").then(last).then(world.note("after"))
        host = world.running_host(builder)
        id = host.start_workflow("stops")
        with started(host):
            world.wait_until_noted("began")
        assert world.notes == ["began", "ended"]
        time.sleep(0.1)
        assert world.status(id) is WorkflowStatus.RUNNABLE
        with started(world.running_host(builder)):
            world.wait_for([id])
        assert world.notes == ["began", "ended", "after"]

    def test_a_started_host_finds_what_becomes_due_while_it_runs(self, world: World) -> None:
        builder = WorkflowBuilder("woken").wait_for("paid", key="1").delay(0.1).then(world.note("after"))
        host, client = world.running_host(builder), world.running_host(builder)
        with started(host):
            id = client.start_workflow("woken")
            time.sleep(0.1)
            client.publish_event("paid", "1")
            world.wait_for([id])
        assert world.notes == ["after"]
