"""What a save costs more in a big workflow than in a small one: time, and write-ahead log."""

import statistics

from benchmarks.harness import Prepare
from benchmarks.implementations.floor import connect
from benchmarks.scenario import OURS, RUST, Stage, at_most, stores
from benchmarks.sections.saves import saving, stepped

SAVES, FIRST = 15, 5  # how many in all, and how many of them bring the pages into the log
_WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'"


def run(stage: Stage) -> None:
    """The time of a save in a big workflow against a small one, and the log of a save at each size."""
    small, big = stage.plan.growth
    with stores(stage.url, OURS) as ways:
        store = ways[OURS]
        saves = {f"{size} pointers": saving(store, stepped(store, store, size)) for size in (small, big)}
        race = stage.race("growth of a save", saves)
        growth = race.ratio(f"{big} pointers", f"{small} pointers")
        stage.ratio(f"save, {big} pointers", f"of a save with {small}", growth, at_most(3.5))
        stage.progress.race("write-ahead log of a save")
        logs = {size: _log_of(saving(store, stepped(store, store, size)), stage.url) for size in stage.plan.sizes}
    for size, written in logs.items():
        stage.value(f"save, {size} pointers", "write-ahead log", written, "bytes")
    spread = max(logs.values()) / min(logs.values())
    stage.value("save, all sizes", "write-ahead log: most, of least", spread, "x", at_most(1.2))
    with stores(stage.url, RUST) as ways:
        store = ways[RUST]
        written = _log_of(saving(store, stepped(store, store, big)), stage.url)
    stage.value(f"save, {big} pointers, Rust algorithm", "write-ahead log", written, "bytes")


def _log_of(prepare: Prepare, url: str) -> float:
    """The median of what a save writes, in bytes, after some that bring the pages into the log."""
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
