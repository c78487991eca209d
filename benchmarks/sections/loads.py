"""Loads of workflows of several sizes."""

from functools import partial

from benchmarks.harness import Call, Prepare
from benchmarks.implementations.store import Store
from benchmarks.samples import order
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

OF_BASELINE = {1: 1.30, 10: 1.25, 100: 1.25, 1000: 1.15, 3000: 1.15}


def run(scenario: Scenario) -> None:
    """Run on the direct route, then on the delayed one."""
    for route in (scenario.near, scenario.far):
        for size in scenario.plan.sizes:
            _race(scenario, route, size)


def loading(store: Store, near: Store, size: int) -> Prepare:
    """Loads of a new workflow with `size` pointers, created with the direct connection `near`."""
    instance = order(size)
    near.create(instance)
    call: Call = partial(store.load, instance.id)
    return lambda: call


def _race(scenario: Scenario, route: Route, size: int) -> None:
    far = route is scenario.far
    with stores_on(
        route, scenario.url, OURS, BASELINE, KNOWN_CHANGES, POOLED, RUST, INDEXED_RUST, ORM
    ) as implementations:
        prepared = {
            implementation: loading(store, near, size) for implementation, (store, near) in implementations.items()
        }
        race = scenario.race(f"load, {size} pointers", prepared, route=route)
    limit = 1.08 if far else OF_BASELINE.get(size)
    scenario.ratio(race.title, "of the baseline", race.ratio(OURS, BASELINE), at_most(limit))
    scenario.ratio(race.title, "of the baseline with SQLAlchemy", race.ratio(OURS, POOLED))
    scenario.ratio(race.title, "of the baseline without state", race.ratio(OURS, KNOWN_CHANGES))
    scenario.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
    with_index = race.ratio(INDEXED_RUST, OURS)
    scenario.ratio(race.title, "times as fast as the Rust algorithm with an index", with_index, at_least(1.0))
    scenario.ratio(race.title, "times as fast as the plain ORM", race.ratio(ORM, OURS))
    if far:
        scenario.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))
