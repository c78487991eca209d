"""Poll, load and save in a filled store, compared with an empty one."""

from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from benchmarks.crowds import fill
from benchmarks.harness import Prepare
from benchmarks.implementations.ours import Ours
from benchmarks.samples import order
from benchmarks.scenario import OURS, Scenario, at_most, stores
from benchmarks.sections.loads import loading
from benchmarks.sections.saves import saving, stepped

DUE = 10
POINTERS = 10
EMPTY, CROWDED = "empty store", "filled store"


def run(scenario: Scenario) -> None:
    """Run both stores on one server, with alternating calls."""
    scenario.progress.race("filling the store")
    crowded = scenario.database("crowded", fill)
    with stores(scenario.url, OURS), closing(Ours(scenario.url)) as empty, closing(Ours(crowded)) as crowd:
        stores_by_name = {EMPTY: empty, CROWDED: crowd}
        plan = scenario.plan
        rows = f"{DUE} due among {plan.crowd:,} others"
        _race(scenario, f"get_runnable_instances, {rows}", {name: _due(it) for name, it in stores_by_name.items()}, 1.5)
        pointers = f"{plan.crowd * plan.pointers_in_crowd:,} pointers stored"
        _race(
            scenario, f"load, {pointers}", {name: loading(it, it, POINTERS) for name, it in stores_by_name.items()}, 1.3
        )
        saves = {name: saving(it, stepped(it, it, POINTERS)) for name, it in stores_by_name.items()}
        _race(scenario, f"save, {pointers}", saves, 1.3)


def _due(store: Ours) -> Prepare:
    for _ in range(DUE):
        store.create(order(1))
    return partial(partial, store.provider.get_runnable_instances, datetime.now(UTC))


def _race(scenario: Scenario, title: str, implementations: dict[str, Prepare], limit: float) -> None:
    race = scenario.race(title, implementations)
    scenario.ratio(title, "of an empty store", race.ratio(CROWDED, EMPTY), at_most(limit))
