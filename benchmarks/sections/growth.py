"""Duration and write-ahead log volume of a save, by the size of the workflow."""

import statistics

from benchmarks.harness import Prepare
from benchmarks.implementations.baseline import connect
from benchmarks.scenario import OURS, RUST, Scenario, at_most, stores
from benchmarks.sections.saves import saving, stepped

SAVES, FIRST = 15, 5  # saves in total, and warm-up saves that write full-page images
_WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'"


def run(scenario: Scenario) -> None:
    """Compare saves of a large and a small workflow, and measure the log volume of a save at each size."""
    small, big = scenario.plan.growth
    with stores(scenario.url, OURS) as implementations:
        store = implementations[OURS]
        saves = {f"{size} pointers": saving(store, stepped(store, store, size)) for size in (small, big)}
        race = scenario.race("growth of a save", saves)
        growth = race.ratio(f"{big} pointers", f"{small} pointers")
        scenario.ratio(f"save, {big} pointers", f"of a save with {small}", growth, at_most(3.5))
        scenario.progress.race("write-ahead log of a save")
        logs = {size: _log_of(saving(store, stepped(store, store, size)), scenario.url) for size in scenario.plan.sizes}
    for size, written in logs.items():
        scenario.value(f"save, {size} pointers", "write-ahead log", written, "bytes")
    spread = max(logs.values()) / min(logs.values())
    scenario.value("save, all sizes", "write-ahead log: maximum of minimum", spread, "x", at_most(1.2))
    with stores(scenario.url, RUST) as implementations:
        store = implementations[RUST]
        written = _log_of(saving(store, stepped(store, store, big)), scenario.url)
    scenario.value(f"save, {big} pointers, Rust algorithm", "write-ahead log", written, "bytes")


def _log_of(prepare: Prepare, url: str) -> float:
    """The median log volume of a save in bytes, without the warm-up saves."""
    written = []
    with connect(url) as connection:
        for _ in range(SAVES):
            call = prepare()
            before = connection.execute(_WRITTEN).fetchone()
            call()
            after = connection.execute(_WRITTEN).fetchone()
            assert before is not None
            assert after is not None
            written.append(int(after[0] - before[0]))
    return statistics.median(written[FIRST:])
