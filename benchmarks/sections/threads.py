"""Eight threads that load and save, each its own workflow: the throughput of all together."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.harness import Race
from benchmarks.implementations.store import Store
from benchmarks.samples import order, take_step
from benchmarks.scenario import FLOOR, OURS, Stage, at_least, stores
from wfe_postgres import WorkflowInstance

POINTERS = 10


def run(stage: Stage) -> None:
    """The two sides take turns."""
    plan = stage.plan
    stage.progress.race(f"{plan.threads} threads")
    with ExitStack() as stack:
        ours = stack.enter_context(stores(stage.url, OURS))[OURS]
        floors = [stack.enter_context(stores(stage.url, FLOOR, empty=False))[FLOOR] for _ in range(plan.threads)]
        sides = {
            OURS: [_cycle(ours) for _ in range(plan.threads)],  # one provider, as in a program
            FLOOR: [_cycle(floor) for floor in floors],
        }
        times: dict[str, list[float]] = {OURS: [], FLOOR: []}
        for turn in range(plan.slices + 1):
            for side, cycles in sides.items():
                times[side].append(1 / _throughput(cycles, plan.slice))
            stage.progress.advance(turn / plan.slices)
    race = stage.keep(
        Race(f"load and save by {plan.threads} threads", {side: them[1:] for side, them in times.items()})
    )
    stage.ratio(race.title, "of the floor's throughput", race.ratio(FLOOR, OURS), at_least(0.75))
    stage.value(race.title, "throughput", 1 / race.median(OURS), "cycles/s")


def _cycle(store: Store) -> Callable[[], None]:
    """Load, take a step, save; every other time the step is taken back instead, so that the size stays."""
    id = order(POINTERS).id
    store.create(order(POINTERS, id=id))

    def cycle() -> None:
        instance = store.load(id)
        _change(instance)
        store.save(instance)

    return cycle


def _change(instance: WorkflowInstance) -> None:
    if len(instance.execution_pointers) > POINTERS:
        instance.execution_pointers.pop()
    else:
        take_step(instance)


def _throughput(cycles: list[Callable[[], None]], seconds: float) -> float:
    """How many cycles a second all threads together do; one that fails makes this fail."""
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
