"""Durable steps per second of the workflow host, compared with DBOS's own engine."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial

from benchmarks.engines import Engine, in_one_process, in_processes
from benchmarks.harness import Call, Prepare, Race, race
from benchmarks.implementations.host import host_engine
from benchmarks.implementations.ours import Ours
from benchmarks.peers import installed_engines
from benchmarks.plan import Plan
from benchmarks.scenario import OURS, Scenario, at_least

_BATCH = 2
"""The workflows of a call, for each thread or process."""

Opened = Callable[[Engine, str], AbstractContextManager[Call]]


def run(scenario: Scenario) -> None:
    """One process with one thread, one with several, and several processes."""
    plan = scenario.plan
    steps, threads, processes = plan.steps, plan.threads, plan.processes
    title = f"host: workflow of {steps} durable steps"
    _race(scenario, f"{title}, 1 thread", lambda engine, url: in_one_process(engine, url, steps, 1, 1), 1, 4.5)
    batch = _BATCH * threads
    _race(
        scenario,
        f"{title}, {threads} threads",
        lambda engine, url: in_one_process(engine, url, steps, threads, batch),
        batch,
        3,
    )
    _race(
        scenario,
        f"{title}, {processes} processes",
        lambda engine, url: in_processes(engine, url, steps, processes, _BATCH),
        _BATCH * processes,
        3,
    )


def _race(scenario: Scenario, title: str, opened: Opened, workflows: int, target: float) -> None:
    """`workflows`: those of a call."""
    engines: dict[str, tuple[Engine, str]] = {OURS: (host_engine, scenario.database("hosts", _create_store))}
    for name, engine in installed_engines().items():
        engines[name] = engine, scenario.database(f"hosts_{name.lower()}", lambda _, __: None)
    plan = scenario.plan
    with ExitStack() as stack:
        calls = {name: stack.enter_context(opened(engine, url)) for name, (engine, url) in engines.items()}
        prepared: dict[str, Prepare] = {name: partial(_unprepared, call) for name, call in calls.items()}
        timed = race(title, prepared, plan.race * 2.5, plan.min_calls, scenario.progress)
    done = scenario.add_race(Race(title, timed.times))  # the CPU time of this thread says nothing of the others'
    for name in calls:
        scenario.value(title, f"{name}: steps", plan.steps * workflows / done.median(name), "/s")
    for name in calls.keys() - {OURS}:
        scenario.ratio(title, f"times as fast as {name}", done.ratio(name, OURS), at_least(target))


def _create_store(url: str, _: Plan) -> None:
    with closing(Ours(url)) as ours:
        ours.provider.ensure_store_exists()


def _unprepared(call: Call) -> Call:
    return call
