"""The lease of a workflow whose steps finish quickly."""

from datetime import timedelta

import pytest

from tests.host.kit import World
from wfe_postgres.host import StepContext, WorkflowBuilder
from wfe_postgres.host.outage import Outage
from wfe_postgres.host.pointers import milliseconds
from wfe_postgres.host.renewal import Leases

LEASE = 30.0


@pytest.mark.parametrize(("seconds", "is_kept"), [(0.0, True), (4.9, True), (5.1, False), (31.0, False)])
def test_lease_is_kept_from_step_to_step_while_it_has_only_begun(seconds: float, is_kept: bool) -> None:
    """Then a save leaves `next_execution` as it is, and with it the indexes that hold it."""
    leases: list[int | None] = []
    until: list[int] = []

    def work(context: StepContext) -> None:
        leases.append(context.workflow.next_execution)
        world.clock.advance_to(world.clock() + timedelta(seconds=seconds))
        until.append(milliseconds(world.clock() + timedelta(seconds=LEASE)))

    builder = WorkflowBuilder("order").then(work, name="one").then(work, name="two").then(lambda _: None, name="three")
    world = World(builder.build(), lease=LEASE)
    world.run()
    assert leases[1] == (leases[0] if is_kept else until[0])


def test_long_step_of_a_kept_lease_is_renewed_in_time() -> None:
    """While two thirds of the lease are left, counted from its end and not from the begin of the step."""
    world = World(WorkflowBuilder("order").then(lambda _: None).build())
    id = world.host.start_workflow("order")
    instance = world.provider.get_workflow_instance(id)
    leases = Leases(world.provider, LEASE, world.clock, Outage(None))  # type: ignore[arg-type]
    for left, is_long in ((30.0, False), (25.0, False), (21.0, False), (19.9, True)):
        instance.next_execution = milliseconds(world.clock() + timedelta(seconds=left))
        claim = leases.claim(instance, instance.execution_pointers[0])
        assert claim.is_long is is_long
        leases.forget(claim)
