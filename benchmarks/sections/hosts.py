"""Durable steps per second of the workflow host, compared with DBOS's own engine.

A call starts the same number of workflows at once in all races, because a single workflow ends before the processors of
a host that was idle during the other engine's call are at full speed again.
"""

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

Opened = Callable[[Engine, str], AbstractContextManager[Call]]


def run(scenario: Scenario) -> None:
    """One process with one thread, one with several, and several processes."""
    plan = scenario.plan
    steps, processes, workflows = plan.steps, plan.processes, plan.workflows
    title = f"host: {workflows} workflows of {steps} durable steps"
    for threads, target in ((1, 4.5), (plan.threads, 3)):
        in_threads = partial(in_one_process, steps=steps, threads=threads, workflows=workflows)
        _race(scenario, f"{title}, {threads} thread{'s' * (threads > 1)}", in_threads, target)
    spread = partial(in_processes, steps=steps, processes=processes, workflows=workflows // processes)
    _race(scenario, f"{title}, {processes} processes", spread, 3)


def _race(scenario: Scenario, title: str, opened: Opened, target: float) -> None:
    engines: dict[str, tuple[Engine, str]] = {OURS: (host_engine, scenario.database("hosts", _create_store))}
    for name, engine in installed_engines().items():
        engines[name] = engine, scenario.database(f"hosts_{name.lower()}", lambda _, __: None)
    plan = scenario.plan
    with ExitStack() as stack:
        calls = {name: stack.enter_context(opened(engine, url)) for name, (engine, url) in engines.items()}
        prepared: dict[str, Prepare] = {name: partial(_unprepared, call) for name, call in calls.items()}
        timed = race(title, prepared, plan.race * 2, plan.slices, scenario.progress)
    done = scenario.add_race(Race(title, timed.times))  # the CPU time of this thread says nothing of the others'
    for name in calls:
        scenario.value(title, f"{name}: steps", plan.steps * plan.workflows / done.median(name), "/s")
    for name in calls.keys() - {OURS}:
        scenario.ratio(title, f"times as fast as {name}", done.ratio(name, OURS), at_least(target))


def _create_store(url: str, _: Plan) -> None:
    with closing(Ours(url)) as ours:
        ours.provider.ensure_store_exists()


def _unprepared(call: Call) -> Call:
    return call
