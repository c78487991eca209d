"""The lease of a workflow whose steps finish quickly."""

import threading
from datetime import timedelta
from functools import partial

import pytest

from tests.host.kit import World
from tests.provider.databases import wait_until
from wfe_postgres import WorkflowInstance
from wfe_postgres.host import StepContext, WorkflowBuilder
from wfe_postgres.host.outage import Outage
from wfe_postgres.host.pointers import milliseconds
from wfe_postgres.host.renewal import Leases

LEASE = 30.0


def leases_of(world: World) -> Leases:
    """Claims that are not the host's own."""
    return Leases(world.provider, LEASE, world.clock, Outage(None))  # type: ignore[arg-type]


def new_workflow() -> tuple[World, WorkflowInstance]:
    """One that was started, of a single step."""
    world = World(WorkflowBuilder("order").then(lambda _: None).build())
    return world, world.provider.get_workflow_instance(world.host.start_workflow("order"))


def no_thread_but(before: set[threading.Thread]) -> bool:
    """Whether all threads have ended that have begun since."""
    return set(threading.enumerate()) <= before


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
    world, instance = new_workflow()
    leases = leases_of(world)
    for left, is_long in ((30.0, False), (25.0, False), (21.0, False), (19.9, True)):
        instance.next_execution = milliseconds(world.clock() + timedelta(seconds=left))
        claim = leases.claim(instance, instance.execution_pointers[0])
        assert claim.is_long is is_long
        leases.forget(claim)
    leases.rest()


def test_thread_ends_with_a_step_that_is_given_up_as_it_begins() -> None:
    """Before the thread has begun to wait."""
    world, instance = new_workflow()
    for _ in range(300):
        before, leases = set(threading.enumerate()), leases_of(world)
        claim = leases.claim(instance, instance.execution_pointers[0])
        leases.close()
        leases.forget(claim)
        wait_until(partial(no_thread_but, before), timeout=LEASE / 24)
