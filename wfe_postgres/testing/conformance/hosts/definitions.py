"""What a host does with definitions: those it knows, those it does not know, and those that were changed."""

import pytest

from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.host import WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, World
from wfe_postgres.testing.conformance.support import race, results

_MANY = 120


class HostDefinitionConformance(HostSuite):
    """Known, unknown and changed definitions."""

    def test_workflows_of_unknown_definitions_stay_untouched_and_take_no_turn(self, world: World) -> None:
        others = world.host(WorkflowBuilder("other").then(world.note("other")))
        newer = world.host(WorkflowBuilder("known", version=2).then(world.note("newer")))
        ids = [others.start_workflow("other") for _ in range(_MANY)]
        ids += [newer.start_workflow("known") for _ in range(_MANY)]
        before = world.provider.get_workflow_instances(ids)
        world.clock.advance(1)
        host = world.host(WorkflowBuilder("known").then(world.note("known")))
        id = host.start_workflow("known")
        try:
            results(race([lambda: host.run_until_idle(advance=True)]))
            assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["known"])
            after = world.provider.get_workflow_instances(ids)
            assert [(it.id, it.revision) for it in after] == [(it.id, it.revision) for it in before]
        finally:
            # A host that takes them as due would otherwise try them until the process ends.
            for other in ids:
                others.terminate_workflow(other)

    def test_a_workflow_begins_in_the_highest_version_and_stays_in_its_own(self, world: World) -> None:
        versions = [WorkflowBuilder("grows", version).then(world.note(f"version {version}")) for version in (1, 10, 9)]
        host = world.host(*versions)
        ids = [host.start_workflow("grows"), host.start_workflow("grows", version=1)]
        host.run_until_idle()
        assert sorted(world.notes) == ["version 1", "version 10"]
        assert [world.stored(id).version for id in ids] == [10, 1]

    def test_two_definitions_of_one_id_and_version_are_refused(self, world: World) -> None:
        with pytest.raises(ValueError, match="known"):
            world.host(WorkflowBuilder("known").then(world.note("a")), WorkflowBuilder("known").then(world.note("b")))

    def test_a_workflow_of_an_unknown_definition_cannot_be_started(self, world: World) -> None:
        host = world.host(WorkflowBuilder("known").then(world.note("a")))
        for version in (None, 7):
            with pytest.raises(LookupError):
                host.start_workflow("known" if version else "unknown", version=version)

    @pytest.mark.parametrize("change", ["another name", "fewer steps"])
    def test_a_workflow_whose_definition_was_changed_is_suspended_and_not_run(self, world: World, change: str) -> None:
        old = WorkflowBuilder("changed").then(world.note("first")).delay(10).then(world.note("last"))
        id = (host := world.host(old)).start_workflow("changed")
        host.run_until_idle()
        new = WorkflowBuilder("changed").then(world.note("first"))
        if change == "another name":
            new.then(world.note("inserted")).delay(10)
        world.host(new).run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.SUSPENDED, ["first"])
        assert len(world.errors(id)) == 1
