"""Durable steps a second: a workflow of 20 steps, each on disk before the next begins, against the peers."""

from contextlib import ExitStack
from functools import partial

from benchmarks.harness import Call
from benchmarks.implementations.store import Store
from benchmarks.peers import installed_peers
from benchmarks.samples import order, take_step
from benchmarks.scenario import FLOOR, OURS, Line, Stage, at_least, stores

RELOADING = "wfe_postgres, reloading each step"
FLOOR_RELOADING = "floor, reloading each step"


def run(stage: Stage) -> None:
    """Both lines."""
    for line in (stage.near, stage.far):
        _race(stage, line)


def _race(stage: Stage, line: Line) -> None:
    steps = stage.plan.steps
    with ExitStack() as stack:
        ways = stack.enter_context(stores(line.through(stage.url), OURS, FLOOR))
        calls: dict[str, Call] = {
            OURS: partial(_run, ways[OURS], steps, reload=False),
            RELOADING: partial(_run, ways[OURS], steps, reload=True),
            FLOOR: partial(_run, ways[FLOOR], steps, reload=False),
            FLOOR_RELOADING: partial(_run, ways[FLOOR], steps, reload=True),
        }
        for name, peer in installed_peers().items():
            url = stage.database(name.lower(), lambda _, __: None)
            calls[name] = stack.enter_context(peer(line.through(url), steps))
        seconds = stage.plan.race * 2.5
        prepared = {name: partial(_given, call) for name, call in calls.items()}
        race = stage.race(f"workflow of {steps} durable steps", prepared, line=line, seconds=seconds)
    for name in calls:
        stage.value(race.title, f"{name}: steps", steps / race.median(name), "/s")
    if "DBOS" in calls:
        far = line is stage.far
        measured = "times as fast as DBOS"
        stage.ratio(f"{race.title}, in memory", measured, race.ratio("DBOS", OURS), at_least(6 if far else 3.5))
        reloading = at_least(None if far else 2.5)
        title = f"{race.title}, reloading each step"
        stage.ratio(title, measured, race.ratio("DBOS", RELOADING), reloading)
        stage.ratio(title, "the floor: times as fast as DBOS", race.ratio("DBOS", FLOOR_RELOADING))
    if "LangGraph" in calls:
        langgraph = race.ratio("LangGraph", OURS)
        stage.ratio(f"{race.title}, in memory", "times as fast as LangGraph's saver", langgraph, at_least(1))


def _given(call: Call) -> Call:
    return call


def _run(store: Store, steps: int, *, reload: bool) -> None:
    """A new workflow; each step is a save, and a load before it if it is not kept in memory."""
    instance = order(1)
    store.create(instance)
    for _ in range(steps):
        if reload:
            instance = store.load(instance.id)
        take_step(instance)
        store.save(instance)
