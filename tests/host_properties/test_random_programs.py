"""Random programs with random failures, events and deaths of hosts: each ends as the reference interpreter says."""

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings

from tests.faults.kit.form import runs
from tests.host_properties.acceptance import mismatch
from tests.host_properties.programs import programs
from tests.host_properties.world import Case, World, cases
from wfe_postgres import PointerStatus, ScheduledCommand, WorkflowStatus
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock


def lived(case: Case) -> World:
    """The world of the case, on the in-memory provider, after it has come to its rest."""
    clock = ManualClock()
    return World(case, InMemoryPersistenceProvider(clock=clock), clock).run()


def check_world(world: World, *, skips: bool = False) -> None:
    """Everything that is promised of a world at its rest."""
    check_runs(world, skips=skips)
    check_rest(world)
    check_subscriptions(world)


def check_runs(world: World, *, skips: bool) -> None:
    """Each workflow was run as its program says; with deaths, effects outside the transaction may be repeated."""
    committed: Counter[str] = Counter()
    for program, observed in world.runs(skips=skips):
        assert mismatch(program, observed) is None
        committed.update(observed.log)
    repeated = world.effects - committed
    assert committed <= world.effects
    assert repeated.total() <= world.died


def check_rest(world: World) -> None:
    """Nothing is due, now or later, and nobody waits who cannot be woken."""
    far = world.clock() + timedelta(days=10_000)
    commands: list[ScheduledCommand] = []
    world.provider.process_commands(far, commands.append)
    assert commands == []
    assert world.provider.get_runnable_events(far) == []
    assert world.provider.get_runnable_instances(far) == []
    for instance in world.instances():
        statuses = {pointer.status for pointer in instance.execution_pointers}
        if instance.status is WorkflowStatus.RUNNABLE:
            assert PointerStatus.WAITING_FOR_EVENT in statuses
        if instance.status is WorkflowStatus.COMPLETE:
            assert not statuses & {PointerStatus.FAILED, PointerStatus.PENDING, PointerStatus.WAITING_FOR_EVENT}


def check_subscriptions(world: World) -> None:
    """Each waiting pointer has its subscription, and there is no other."""
    waiting = sorted(
        (it.id, pointer.id)
        for it in world.instances()
        if it.status in (WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED)
        for pointer in it.execution_pointers
        if pointer.status is PointerStatus.WAITING_FOR_EVENT
    )
    subscriptions = world.provider._store.subscriptions.values()
    assert sorted((it.workflow_id, it.execution_pointer_id) for it in subscriptions) == waiting


@given(cases(programs(), deaths=0))
@settings(deadline=None, max_examples=runs(40, 3_000))
def test_program_ends_as_the_interpreter_says_whenever_events_come(case: Case) -> None:
    world = lived(case)
    check_world(world)


@given(cases(programs()))
@settings(deadline=None, max_examples=runs(40, 3_000))
def test_program_ends_as_the_interpreter_says_whenever_hosts_die(case: Case) -> None:
    world = lived(case)
    check_world(world)


@given(cases(programs(), deaths=2, rivals=10))
@settings(deadline=None, max_examples=runs(40, 3_000))
def test_hosts_that_work_at_the_same_time_never_run_the_same_step(case: Case) -> None:
    check_world(lived(case))


@given(cases(programs(sagas=False), deaths=0))
@settings(deadline=None, max_examples=runs(25, 1_500))
def test_resumed_workflow_fails_again_and_never_completes_without_its_failed_steps(case: Case) -> None:
    world = lived(case)
    world.resume(skip_failed=False)
    check_world(world)


@given(cases(programs(sagas=False), deaths=0))
@settings(deadline=None, max_examples=runs(25, 1_500))
def test_workflow_resumed_without_its_failed_steps_goes_on_after_them(case: Case) -> None:
    world = lived(case)
    while world.resume(skip_failed=True):
        pass
    check_world(world, skips=True)
