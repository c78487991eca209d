"""What a load takes of Python's memory, against the JSON text that it carries, and what is left of it afterwards."""

import gc
import tracemalloc
from dataclasses import dataclass

from benchmarks.implementations.floor import LOAD, connect
from benchmarks.implementations.store import Store
from benchmarks.samples import order
from benchmarks.scenario import OURS, TOLD, Stage, at_most, stores

WARM_UP = 7
LETTER = "Dear Sir or Madam, we have received your order and will send it tomorrow. " * 16
LEFT = 0.01  # of the JSON: counters and caches grow a little with any call


@dataclass(frozen=True)
class _Memory:
    """In bytes above what there was before. (libpq's own buffers are not Python's memory.)"""

    peak: int
    held: int
    left: int


def run(stage: Stage) -> None:
    """A workflow, loaded, held, let go: as it is in the races, and with a letter of a kilobyte in every pointer."""
    _load(stage, "")
    _load(stage, LETTER)


def _load(stage: Stage, letter: str) -> None:
    size = stage.plan.remembered
    work = f"load, {size} pointers with a letter each" if letter else f"load, {size} pointers"
    stage.progress.race(f"memory of a {work}")
    instance = order(size)
    for pointer in instance.execution_pointers:
        pointer.context_item = {"letter": f"{pointer.step_id}: {letter}"} if letter else None
    with stores(stage.url, OURS, TOLD) as ways:
        ways[OURS].create(instance)
        carried = _carried(stage.url, instance.id)
        ours, floor = (_traced(ways[way], instance.id) for way in (OURS, TOLD))
    stage.value(work, "the JSON it carries", carried, "bytes")
    stage.value(work, "peak of memory, of that JSON", ours.peak / carried, "x", at_most(4))
    stage.value(work, "the same of the floor that keeps nothing", floor.peak / carried, "x")
    stage.value(work, "memory of the held instance, of that JSON", ours.held / carried, "x")
    stage.value(work, "the same of the floor that keeps nothing", floor.held / carried, "x")
    stage.value(work, "memory kept after it is let go, of that JSON", ours.left / carried, "x", at_most(LEFT))


def _carried(url: str, id: str) -> int:
    """The bytes of the workflow's JSON text, as the server hands it out."""
    with connect(url) as connection:
        row = connection.execute(LOAD, {"id": id}).fetchone()
    assert row
    return sum(len(text.encode()) for text in row)


def _traced(store: Store, id: str) -> _Memory:
    for _ in range(WARM_UP):
        store.load(id)
    gc.collect()
    tracemalloc.start()
    try:
        store.load(id)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        instance = store.load(id)
        now, peak = tracemalloc.get_traced_memory()
        del instance
        gc.collect()
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return _Memory(peak - before, now - before, left - before)
