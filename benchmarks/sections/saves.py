"""A save after one step: one pointer is changed and one added, in workflows of several sizes."""

from functools import partial

from benchmarks.harness import Call, Prepare
from benchmarks.implementations.floor import ToldFloor
from benchmarks.implementations.store import Store
from benchmarks.samples import order, take_step
from benchmarks.scenario import FLOOR, ORM, OURS, POOLED, RUST, TOLD, Line, Stage, at_least, at_most, stores_on
from wfe_postgres import WorkflowInstance

OF_RUST = {1: 0.95, 10: 2, 100: 8, 1000: 30}
OF_RUST_FAR = {1: 3, 10: 8}


def run(stage: Stage) -> None:
    """The direct line first, then the one with the delay."""
    for line in (stage.near, stage.far):
        for size in stage.plan.sizes:
            _race(stage, line, size)


def saving(store: Store, instance: WorkflowInstance) -> Prepare:
    """Saves of an instance that the store holds and that has taken a step: before each it takes that step anew."""

    def prepare() -> Call:
        store.take_back(instance)
        take_step(instance)
        if isinstance(store, ToldFloor):
            last = len(instance.execution_pointers) - 1
            store.changed, store.removed = (last - 1, last), ()
        return partial(store.save, instance)

    return prepare


def stepped(store: Store, near: Store, size: int) -> WorkflowInstance:
    """A workflow of so many pointers and one more, created by way of `near`."""
    instance = order(size + 1)
    near.create(instance)
    return store.load(instance.id)


def _race(stage: Stage, line: Line, size: int) -> None:
    far = line is stage.far
    slow = () if far and size > stage.plan.slow_behind_delay else (RUST, ORM)
    with stores_on(line, stage.url, OURS, FLOOR, TOLD, POOLED, *slow) as ways:
        prepared = {way: saving(store, stepped(store, near, size)) for way, (store, near) in ways.items()}
        race = stage.race(f"save, {size} pointers", prepared, line=line)
    limit = 1.1 if far else 1.35 if size <= 100 else 1.2
    stage.ratio(race.title, "of the floor", race.ratio(OURS, FLOOR), at_most(limit))
    stage.ratio(race.title, "of the floor by way of SQLAlchemy", race.ratio(OURS, POOLED))
    stage.ratio(race.title, "of the floor that is told what changed", race.ratio(OURS, TOLD))
    if slow:
        wanted = at_least((OF_RUST_FAR if far else OF_RUST).get(size))
        stage.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS), wanted)
        stage.ratio(race.title, "times as fast as the plain ORM way", race.ratio(ORM, OURS))
    if far:
        stage.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))
