"""A load, of workflows of several sizes."""

from functools import partial

from benchmarks.harness import Call, Prepare
from benchmarks.implementations.store import Store
from benchmarks.samples import order
from benchmarks.scenario import FLOOR, ORM, OURS, POOLED, RUST, TOLD, Line, Stage, at_most, stores_on


def run(stage: Stage) -> None:
    """The direct line first, then the one with the delay."""
    for line in (stage.near, stage.far):
        for size in stage.plan.sizes:
            _race(stage, line, size)


def loading(store: Store, near: Store, size: int) -> Prepare:
    """Loads of a new workflow of so many pointers, created by way of `near`."""
    instance = order(size)
    near.create(instance)
    call: Call = partial(store.load, instance.id)
    return lambda: call


def _race(stage: Stage, line: Line, size: int) -> None:
    far = line is stage.far
    with stores_on(line, stage.url, OURS, FLOOR, TOLD, POOLED, RUST, ORM) as ways:
        prepared = {way: loading(store, near, size) for way, (store, near) in ways.items()}
        race = stage.race(f"load, {size} pointers", prepared, line=line)
    limit = None if far else 1.45 if size <= 100 else 1.2
    stage.ratio(race.title, "of the floor", race.ratio(OURS, FLOOR), at_most(limit))
    stage.ratio(race.title, "of the floor by way of SQLAlchemy", race.ratio(OURS, POOLED))
    stage.ratio(race.title, "of the floor that keeps nothing", race.ratio(OURS, TOLD))
    stage.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
    stage.ratio(race.title, "times as fast as the plain ORM way", race.ratio(ORM, OURS))
    if far:
        stage.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))
