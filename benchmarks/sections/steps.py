"""Durable steps per second in a workflow of 20 steps, compared with other libraries."""

from contextlib import ExitStack
from functools import partial

from benchmarks.harness import Call
from benchmarks.implementations.store import Store
from benchmarks.peers import installed_peers
from benchmarks.samples import order, take_step
from benchmarks.scenario import BASELINE, OURS, Route, Scenario, at_least, stores

RELOADING = "wfe_postgres, reloading each step"
BASELINE_RELOADING = "baseline, reloading each step"


def run(scenario: Scenario) -> None:
    """Run on both routes."""
    for route in (scenario.near, scenario.far):
        _race(scenario, route)


def _race(scenario: Scenario, route: Route) -> None:
    steps = scenario.plan.steps
    with ExitStack() as stack:
        implementations = stack.enter_context(stores(route.through(scenario.url), OURS, BASELINE))
        calls: dict[str, Call] = {
            OURS: partial(_run, implementations[OURS], steps, reload=False),
            RELOADING: partial(_run, implementations[OURS], steps, reload=True),
            BASELINE: partial(_run, implementations[BASELINE], steps, reload=False),
            BASELINE_RELOADING: partial(_run, implementations[BASELINE], steps, reload=True),
        }
        for name, peer in installed_peers().items():
            url = scenario.database(name.lower(), lambda _, __: None)
            calls[name] = stack.enter_context(peer(route.through(url), steps))
        seconds = scenario.plan.race * 2
        prepared = {name: partial(_unprepared, call) for name, call in calls.items()}
        race = scenario.race(f"workflow of {steps} durable steps", prepared, route=route, seconds=seconds)
    for name in calls:
        scenario.value(race.title, f"{name}: steps", steps / race.median(name), "/s")
    if "DBOS" in calls:
        far = route is scenario.far
        measured = "times as fast as DBOS"
        scenario.ratio(f"{race.title}, in memory", measured, race.ratio("DBOS", OURS), at_least(6 if far else 3.5))
        reloading = at_least(None if far else 2.5)
        title = f"{race.title}, reloading each step"
        scenario.ratio(title, measured, race.ratio("DBOS", RELOADING), reloading)
        scenario.ratio(title, "the baseline: times as fast as DBOS", race.ratio("DBOS", BASELINE_RELOADING))
    if "LangGraph" in calls:
        langgraph = race.ratio("LangGraph", OURS)
        scenario.ratio(f"{race.title}, in memory", "times as fast as LangGraph's saver", langgraph, at_least(1))


def _unprepared(call: Call) -> Call:
    return call


def _run(store: Store, steps: int, *, reload: bool) -> None:
    """Run a new workflow; each step is a save, preceded by a load if `reload`."""
    instance = order(1)
    store.create(instance)
    for _ in range(steps):
        if reload:
            instance = store.load(instance.id)
        take_step(instance)
        store.save(instance)
