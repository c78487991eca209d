"""Loads and saves in a tight loop: consecutive calls of one implementation, then of the other.

In the other sections each call comes after a call of another implementation, as a program's calls come after other work
of the program. In a tight loop the processor's caches are filled by the same call, which takes less time.
"""

from benchmarks.harness import Prepare
from benchmarks.implementations.store import Store
from benchmarks.scenario import BASELINE, OURS, Scenario, stores
from benchmarks.sections.loads import loading
from benchmarks.sections.saves import saving, stepped

MAX_SIZE = 100  # pointers; above, the caches are filled by the data


def run(scenario: Scenario) -> None:
    """Run on the direct route; up to a size above which there is little difference."""
    for size in scenario.plan.sizes:
        if size <= MAX_SIZE:
            with stores(scenario.url, OURS, BASELINE) as opened:
                _race(scenario, f"load, {size} pointers", {it: _loading(opened[it], size) for it in opened})
                _race(scenario, f"save, {size} pointers", {it: _saving(opened[it], size) for it in opened})


def _loading(store: Store, size: int) -> Prepare:
    return loading(store, store, size)


def _saving(store: Store, size: int) -> Prepare:
    return saving(store, stepped(store, store, size))


def _race(scenario: Scenario, work: str, implementations: dict[str, Prepare]) -> None:
    plan = scenario.plan
    race = scenario.race(f"{work}, tight loop", implementations, seconds=plan.race / 2, turn=plan.turn)
    scenario.ratio(race.title, "of the baseline", race.ratio(OURS, BASELINE))
