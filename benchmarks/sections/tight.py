"""Loads and saves beside less other work: in a tight loop, and in turns with two others.

In the other sections each call comes after a call of one of six other implementations, as a program's calls come after
other work of the program. In a tight loop, consecutive calls of one implementation and then of the other, the
processor's caches are filled by the same call, which takes less time. Among three it is in between.
"""

from collections.abc import Mapping

from benchmarks.harness import Prepare
from benchmarks.implementations.store import Store
from benchmarks.scenario import BASELINE, OURS, RUST, Scenario, at_most, stores
from benchmarks.sections import loads, saves

MAX_SIZE = 100  # pointers; above, the caches are filled by the data


def run(scenario: Scenario) -> None:
    """Run on the direct route; up to a size above which there is little difference."""
    for size in scenario.plan.sizes:
        if size <= MAX_SIZE:
            with stores(scenario.url, OURS, BASELINE, RUST) as opened:
                loading = {it: loads.loading(store, store, size) for it, store in opened.items()}
                _race(scenario, f"load, {size} pointers", loading, loads.OF_BASELINE.get(size))
                _race(scenario, f"save, {size} pointers", _saving(opened, size), saves.OF_BASELINE.get(size))


def _saving(opened: Mapping[str, Store], size: int) -> dict[str, Prepare]:
    return {it: saves.saving(store, saves.stepped(store, store, size)) for it, store in opened.items()}


def _race(scenario: Scenario, work: str, three: Mapping[str, Prepare], limit: float | None) -> None:
    two = {it: three[it] for it in (OURS, BASELINE)}
    seconds, turn = scenario.plan.race / 2, scenario.plan.turn
    tight = scenario.race(f"{work}, tight loop", two, seconds=seconds, turn=turn)
    scenario.ratio(tight.title, "of the baseline", tight.ratio(OURS, BASELINE))
    among_three = scenario.race(f"{work}, among three", three, seconds=seconds)
    scenario.ratio(among_three.title, "of the baseline", among_three.ratio(OURS, BASELINE), at_most(limit))
