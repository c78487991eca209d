"""The total throughput of eight threads that load and save separate workflows."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.harness import Race
from benchmarks.implementations.store import Store
from benchmarks.samples import order, take_step
from benchmarks.scenario import BASELINE, OURS, Scenario, at_least, stores
from wfe_postgres import WorkflowInstance

POINTERS = 20


def run(scenario: Scenario) -> None:
    """Alternate between the two implementations."""
    plan = scenario.plan
    scenario.progress.race(f"{plan.threads} threads")
    with ExitStack() as stack:
        ours = stack.enter_context(stores(scenario.url, OURS))[OURS]
        baselines = [
            stack.enter_context(stores(scenario.url, BASELINE, empty=False))[BASELINE] for _ in range(plan.threads)
        ]
        sides = {
            OURS: [_cycle(ours) for _ in range(plan.threads)],  # all threads share one provider, as in an application
            BASELINE: [_cycle(baseline) for baseline in baselines],
        }
        times: dict[str, list[float]] = {OURS: [], BASELINE: []}
        for turn in range(plan.slices + 1):
            for side, cycles in sides.items():
                times[side].append(1 / _throughput(cycles, plan.slice))
            scenario.progress.advance(turn / plan.slices)
    race = scenario.add_race(
        Race(f"load and save by {plan.threads} threads", {side: durations[1:] for side, durations in times.items()})
    )
    scenario.ratio(race.title, "of the baseline's throughput", race.ratio(BASELINE, OURS), at_least(0.80))
    scenario.value(race.title, "throughput", 1 / race.median(OURS), "cycles/s")


def _cycle(store: Store) -> Callable[[], None]:
    """Load, change and save; steps are alternately taken and undone, so that the size is constant."""
    id = order(POINTERS).id
    store.create(order(POINTERS, id=id))

    def cycle() -> None:
        instance = store.load(id)
        change(instance)
        store.save(instance)

    return cycle


def change(instance: WorkflowInstance) -> None:
    """Take a step or undo it."""
    if len(instance.execution_pointers) > POINTERS:
        instance.execution_pointers.pop()
    else:
        take_step(instance)


def _throughput(cycles: list[Callable[[], None]], seconds: float) -> float:
    """Cycles per second of all threads together. Raises the exception of a thread."""
    start = threading.Barrier(len(cycles) + 1)
    counts: list[int] = []
    failures: list[BaseException] = []

    def work(cycle: Callable[[], None]) -> None:
        done = 0
        try:
            start.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                cycle()
                done += 1
        except BaseException as failure:
            failures.append(failure)
        counts.append(done)

    threads = [threading.Thread(target=work, args=(cycle,)) for cycle in cycles]
    for thread in threads:
        thread.start()
    start.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - begin)
