"""Saves after one step (one pointer changed, one added) in workflows of several sizes."""

from functools import partial

from benchmarks.harness import Call, Prepare
from benchmarks.implementations.baseline import KnownChangesBaseline
from benchmarks.implementations.store import Store
from benchmarks.samples import order, take_step
from benchmarks.scenario import (
    BASELINE,
    INDEXED_RUST,
    KNOWN_CHANGES,
    ORM,
    OURS,
    POOLED,
    RUST,
    Route,
    Scenario,
    at_least,
    at_most,
    stores_on,
)
from wfe_postgres import WorkflowInstance

OF_BASELINE = {1: 1.30, 10: 1.30, 100: 1.35, 1000: 1.25, 3000: 1.25}
OF_RUST = {1: 1.3, 10: 3.5, 100: 17, 1000: 60}


def run(scenario: Scenario) -> None:
    """Run on the direct route, then on the delayed one."""
    for route in (scenario.near, scenario.far):
        for size in scenario.plan.sizes:
            _race(scenario, route, size)


def saving(store: Store, instance: WorkflowInstance) -> Prepare:
    """Saves of a stored instance; before each save, the last step is undone and repeated."""

    def prepare() -> Call:
        store.undo_step(instance)
        take_step(instance)
        if isinstance(store, KnownChangesBaseline):
            last = len(instance.execution_pointers) - 1
            store.changed, store.removed = (last - 1, last), ()
        return partial(store.save, instance)

    return prepare


def stepped(store: Store, near: Store, size: int) -> WorkflowInstance:
    """A workflow with `size + 1` pointers, created with the direct connection `near`."""
    instance = order(size + 1)
    near.create(instance)
    return store.load(instance.id)


def _race(scenario: Scenario, route: Route, size: int) -> None:
    far = route is scenario.far
    slow = () if far and size > scenario.plan.slow_behind_delay else (RUST, INDEXED_RUST)
    with stores_on(route, scenario.url, OURS, BASELINE, KNOWN_CHANGES, POOLED, ORM, *slow) as implementations:
        prepared = {
            implementation: saving(store, stepped(store, near, size))
            for implementation, (store, near) in implementations.items()
        }
        race = scenario.race(f"save, {size} pointers", prepared, route=route)
    limit = 1.08 if far else OF_BASELINE.get(size)
    scenario.ratio(race.title, "of the baseline", race.ratio(OURS, BASELINE), at_most(limit))
    scenario.ratio(race.title, "of the baseline with SQLAlchemy", race.ratio(OURS, POOLED))
    scenario.ratio(race.title, "of the baseline with known changes", race.ratio(OURS, KNOWN_CHANGES))
    if slow:
        target = None if far else at_least(OF_RUST.get(size))
        scenario.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
        with_index = race.ratio(INDEXED_RUST, OURS)
        scenario.ratio(race.title, "times as fast as the Rust algorithm with an index", with_index, target)
    scenario.ratio(race.title, "times as fast as the plain ORM", race.ratio(ORM, OURS))
    if far:
        scenario.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))
