"""A step is run by the host that has claimed its workflow, and its result is saved under that claim."""

import time
from typing import Any

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import LEASE, HostSuite, Watched, World, started


def _three(world: World) -> WorkflowBuilder:
    return WorkflowBuilder("three").then(world.note("first")).then(world.note("second")).then(world.note("third"))


class HostClaimConformance(HostSuite):
    """Claims, saves, renewals and lost leases."""

    def test_a_step_runs_only_after_its_claim_is_stored(self, world: World) -> None:
        seen: list[tuple[Any, ...]] = []

        def look(context: StepContext) -> None:
            stored = world.stored(context.workflow.id)
            left = (stored.next_execution or 0) / 1000 - world.clock().timestamp()
            due = world.provider.get_runnable_instances(world.clock())
            status = {it.step_id: it.status for it in stored.execution_pointers}[context.pointer.step_id]
            seen.append((status, LEASE - 1 < left < LEASE + 1, due))

        world.run(WorkflowBuilder("looks").then(look).then(look))
        assert seen == [(PointerStatus.RUNNING, True, [])] * 2

    def test_a_claim_that_comes_second_runs_nothing(self, world: World) -> None:
        watched = Watched(world.provider)
        builder = _three(world)
        late, early = world.host(builder, provider=watched), world.host(builder)

        def overtake(name: str, _: Any) -> None:
            if name.startswith("persist_workflow") and not world.notes:
                early.run_until_idle()

        watched.before = overtake
        id = early.start_workflow("three")
        late.run_until_idle()
        assert world.notes == ["first", "second", "third"]
        assert world.status(id) is WorkflowStatus.COMPLETE

    def test_of_four_hosts_one_runs_each_step(self, world: World) -> None:
        watched = Watched(world.provider)
        watched.before = lambda name, _: time.sleep(0.005 * name.startswith("persist_workflow"))  # for the others
        hosts = [world.running_host(_three(world), provider=watched) for _ in range(4)]
        ids = [hosts[0].start_workflow("three") for _ in range(20)]
        with started(*hosts):
            world.wait_for(ids)
        assert {text: world.notes.count(text) for text in set(world.notes)} == {"first": 20, "second": 20, "third": 20}

    def test_a_workflow_of_three_steps_takes_four_saves_and_one_load(self, world: World) -> None:
        watched = Watched(world.provider)
        host = world.host(_three(world), provider=watched)
        host.start_workflow("three")
        host.run_until_idle()
        assert world.notes == ["first", "second", "third"]
        assert (watched.saves, watched.loads) == (4, 1)

    def test_a_step_of_several_leases_is_run_once(self, world: World) -> None:
        def last(_: StepContext) -> None:
            world.notes.append("began")
            time.sleep(2.0)

        builder = WorkflowBuilder("long").then(last).then(world.note("after"))
        hosts = [world.running_host(builder, lease=0.6) for _ in range(2)]
        id = hosts[0].start_workflow("long")
        with started(*hosts):
            world.wait_for([id])
        assert world.notes == ["began", "after"]

    def test_a_result_that_comes_after_the_lease_is_not_saved(self, world: World) -> None:
        def run(context: StepContext) -> None:
            world.notes.append("run")
            context.data["by"] = len(world.notes)
            if len(world.notes) == 1:
                world.clock.advance(2 * LEASE)
                world.host(builder).run_until_idle()

        builder = WorkflowBuilder("frozen").then(run).then(world.note("after"))
        id = (host := world.host(builder)).start_workflow("frozen")
        host.run_until_idle()
        assert world.notes == ["run", "run", "after"]
        assert world.stored(id).data == {"by": 2}
