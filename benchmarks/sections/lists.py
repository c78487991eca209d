"""Bulk calls: loading many workflows and storing many errors."""

from contextlib import closing
from functools import partial

from benchmarks.harness import Prepare
from benchmarks.implementations.baseline_calls import BaselineCalls
from benchmarks.implementations.rust import Rust
from benchmarks.samples import BEGIN, order
from benchmarks.scenario import BASELINE, OURS, RUST, Route, Scenario, at_least, at_most, stores
from wfe_postgres import ExecutionError, PostgresPersistenceProvider

ONE_BY_ONE = "one by one"
POINTERS = 5


def run(scenario: Scenario) -> None:
    """Run on both routes."""
    for route in (scenario.near, scenario.far):
        url = route.through(scenario.url)
        with (
            stores(url, OURS, RUST),
            PostgresPersistenceProvider(url) as provider,
            closing(Rust(url)) as rust,
            closing(BaselineCalls(url)) as baseline,
        ):
            _load_many(scenario, route, provider, rust)
            _store_errors(scenario, route, provider, rust, baseline)


def _load_many(scenario: Scenario, route: Route, provider: PostgresPersistenceProvider, rust: Rust) -> None:
    ids = [provider.create_new_workflow(order(POINTERS)) for _ in range(scenario.plan.listed)]
    implementations: dict[str, Prepare] = {
        OURS: partial(partial, provider.get_workflow_instances, ids),
        ONE_BY_ONE: partial(partial, _one_by_one, provider, ids),
    }
    if _with_rust(scenario, route, len(ids)):
        for id in ids:
            rust.create(order(POINTERS, id=id))
        implementations[RUST] = partial(partial, rust.load_all, ids)
    race = scenario.race(
        f"get_workflow_instances of {len(ids)}", implementations, route=route, seconds=scenario.plan.race * 0.7
    )
    far = route is scenario.far
    scenario.ratio(
        race.title, "times as fast as one by one", race.ratio(ONE_BY_ONE, OURS), None if far else at_least(4)
    )
    if RUST in implementations:
        scenario.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
    if far:
        scenario.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))


def _with_rust(scenario: Scenario, route: Route, round_trips: int) -> bool:
    return route is scenario.near or round_trips <= scenario.plan.slow_behind_delay


def _one_by_one(provider: PostgresPersistenceProvider, ids: list[str]) -> None:
    for id in ids:
        provider.get_workflow_instance(id)


def _store_errors(
    scenario: Scenario, route: Route, provider: PostgresPersistenceProvider, rust: Rust, baseline: BaselineCalls
) -> None:
    errors = [
        ExecutionError(f"workflow {n % 50}", f"pointer {n}", "ValueError: the card was declined", error_time=BEGIN)
        for n in range(scenario.plan.errors)
    ]
    far = route is scenario.far
    implementations: dict[str, Prepare] = {
        OURS: partial(partial, provider.persist_errors, errors),
        BASELINE: partial(partial, baseline.persist_errors, errors),
    }
    if _with_rust(scenario, route, len(errors)):
        implementations[RUST] = partial(partial, rust.persist_errors, errors)
    race = scenario.race(
        f"persist_errors of {len(errors)}", implementations, route=route, seconds=scenario.plan.race * 0.7
    )
    scenario.ratio(race.title, "of one unnest insert", race.ratio(OURS, BASELINE), None if far else at_most(1.3))
    if RUST in implementations:
        scenario.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
