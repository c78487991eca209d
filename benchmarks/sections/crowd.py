"""A crowded store against an empty one: what is due among hundreds of thousands, a load and a save among a million."""

from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from benchmarks.crowds import fill
from benchmarks.harness import Prepare
from benchmarks.implementations.ours import Ours
from benchmarks.samples import order
from benchmarks.scenario import OURS, Stage, at_most, stores
from benchmarks.sections.loads import loading
from benchmarks.sections.saves import saving, stepped

DUE = 10
POINTERS = 10
EMPTY, CROWDED = "empty store", "crowded store"


def run(stage: Stage) -> None:
    """Both stores on one server, their calls in turn."""
    stage.progress.race("filling the crowded store")
    crowded = stage.database("crowded", fill)
    with stores(stage.url, OURS), closing(Ours(stage.url)) as empty, closing(Ours(crowded)) as crowd:
        places = {EMPTY: empty, CROWDED: crowd}
        plan = stage.plan
        rows = f"{DUE} due among {plan.crowd:,} others"
        _race(stage, f"get_runnable_instances, {rows}", {name: _due(it) for name, it in places.items()}, 1.5)
        pointers = f"{plan.crowd * plan.pointers_in_crowd:,} pointers stored"
        _race(stage, f"load, {pointers}", {name: loading(it, it, POINTERS) for name, it in places.items()}, 1.3)
        saves = {name: saving(it, stepped(it, it, POINTERS)) for name, it in places.items()}
        _race(stage, f"save, {pointers}", saves, 1.3)


def _due(place: Ours) -> Prepare:
    for _ in range(DUE):
        place.create(order(1))
    return partial(partial, place.provider.get_runnable_instances, datetime.now(UTC))


def _race(stage: Stage, title: str, ways: dict[str, Prepare], limit: float) -> None:
    race = stage.race(title, ways)
    stage.ratio(title, "of the same on an empty store", race.ratio(CROWDED, EMPTY), at_most(limit))
