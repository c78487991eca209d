"""The longest calls of threads that load and save at a given rate for minutes.

An implementation that collects work for later makes calls wait while it does this work. Pauses that the baseline has as
well are those of the machine, of the server or of Python's garbage collector.
"""

import gc
import random
import time
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.harness import Race
from benchmarks.implementations.store import Store
from benchmarks.samples import order
from benchmarks.scenario import BASELINE, OURS, Scenario, stores
from benchmarks.sections.threads import POINTERS, change

PAUSE = 0.010  # seconds
WARM_UP = 1.0  # seconds without waiting, in which connections are opened and statements prepared


def run(scenario: Scenario) -> None:
    """One implementation after the other, so that what accumulates over time does so."""
    plan = scenario.plan
    title = f"{plan.rate:,} loads and saves per second by {plan.threads} threads for {plan.pauses:g} s"
    with ExitStack() as stack:
        ours = stack.enter_context(stores(scenario.url, OURS))[OURS]
        baselines = [
            stack.enter_context(stores(scenario.url, BASELINE, empty=False))[BASELINE] for _ in range(plan.threads)
        ]
        sides = {OURS: [ours] * plan.threads, BASELINE: baselines}
        times: dict[str, Sequence[float]] = {}
        for side, opened in sides.items():
            scenario.progress.race(f"{title}, {side}")
            _calls(opened, 0, WARM_UP)
            gc.collect()
            gc.freeze()
            times[side] = _calls(opened, plan.threads / plan.rate, plan.pauses)
    race = scenario.add_race(Race(title, times))
    for side, durations in race.times.items():
        _report(scenario, title, side, sorted(durations))


def _report(scenario: Scenario, title: str, side: str, durations: Sequence[float]) -> None:
    """`durations` in ascending order."""
    scenario.value(title, f"{side}: calls", len(durations) / scenario.plan.pauses, "/s")
    scenario.value(title, f"{side}: longest call", durations[-1] * 1000, "ms")
    scenario.value(title, f"{side}: 99.99th percentile", durations[int(len(durations) * 0.9999)] * 1000, "ms")
    scenario.value(title, f"{side}: calls over {PAUSE * 1000:g} ms", sum(it > PAUSE for it in durations))


def _calls(opened: Sequence[Store], period: float, seconds: float) -> list[float]:
    """The durations of the calls of threads, one for each store, with a call in each period."""
    workers = [_Worker(store, period) for store in opened]
    with ThreadPoolExecutor(len(workers)) as pool:
        running = [pool.submit(worker.run, seconds) for worker in workers]
        return [duration for done in running for duration in done.result()]


class _Worker:
    """Loads and saves a workflow, with a call in each period; a late call is made at once."""

    def __init__(self, store: Store, period: float) -> None:
        self._store, self._period = store, period
        instance = order(POINTERS)
        store.create(instance)
        self._id = instance.id

    def run(self, seconds: float) -> "array[float]":
        """The durations of the calls of so many seconds."""
        took = array("d")
        due = time.perf_counter()
        end = due + seconds
        due += random.random() * self._period
        while due < end and time.perf_counter() < end:
            begin = self._wait(due)
            instance = self._store.load(self._id)
            took.append(time.perf_counter() - begin)
            change(instance)
            begin = self._wait(due + self._period)
            self._store.save(instance)
            took.append(time.perf_counter() - begin)
            due += 2 * self._period
        return took

    def _wait(self, due: float) -> float:
        """Wait until this time; return the time."""
        while (now := time.perf_counter()) < due:
            time.sleep(due - now)
        return now
