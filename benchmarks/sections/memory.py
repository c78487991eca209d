"""Memory used by a load, relative to the size of its JSON text, and memory kept afterwards."""

import gc
import tracemalloc
from dataclasses import dataclass

from benchmarks.implementations.baseline import LOAD, connect
from benchmarks.implementations.store import Store
from benchmarks.samples import order
from benchmarks.scenario import KNOWN_CHANGES, OURS, Scenario, at_most, stores

WARM_UP = 7
LONG_TEXT = "Dear Sir or Madam, we have received your order and will send it tomorrow. " * 16
MAX_LEFT = 0.01  # relative to the JSON; counters and caches grow slightly with every call


@dataclass(frozen=True)
class _Memory:
    """Bytes allocated by Python in addition to before. (The buffers of libpq are not included.)"""

    peak: int
    held: int
    left: int


def run(scenario: Scenario) -> None:
    """Measure a load of the sample workflow, and of one with a text of 1 kB in every pointer."""
    _load(scenario, "")
    _load(scenario, LONG_TEXT)


def _load(scenario: Scenario, text: str) -> None:
    size = scenario.plan.remembered
    work = f"load, {size} pointers with 1 kB of text each" if text else f"load, {size} pointers"
    scenario.progress.race(f"memory of a {work}")
    instance = order(size)
    for pointer in instance.execution_pointers:
        pointer.context_item = {"text": f"{pointer.step_id}: {text}"} if text else None
    with stores(scenario.url, OURS, KNOWN_CHANGES) as implementations:
        implementations[OURS].create(instance)
        json_size = _json_size(scenario.url, instance.id)
        ours, baseline = (
            _traced(implementations[implementation], instance.id) for implementation in (OURS, KNOWN_CHANGES)
        )
    scenario.value(work, "size of the JSON", json_size, "bytes")
    scenario.value(work, "peak memory, relative to the JSON", ours.peak / json_size, "x", at_most(3 if text else 5.5))
    scenario.value(work, "the same of the baseline without state", baseline.peak / json_size, "x")
    scenario.value(work, "memory of the instance, relative to the JSON", ours.held / json_size, "x")
    scenario.value(work, "the same of the baseline without state", baseline.held / json_size, "x")
    scenario.value(
        work, "memory kept after its deletion, relative to the JSON", ours.left / json_size, "x", at_most(MAX_LEFT)
    )


def _json_size(url: str, id: str) -> int:
    """The size in bytes of the workflow's JSON text, as returned by the server."""
    with connect(url) as connection:
        row = connection.execute(LOAD, {"id": id}).fetchone()
    assert row
    return sum(len(part.encode()) for part in row)


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
