"""The benchmark's machinery, on tiny sizes: what it finds is not looked at here, that it is found fairly is."""

import gc
import json
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path

import psycopg
import pytest

from benchmarks.__main__ import main
from benchmarks.engines import in_one_process, in_processes
from benchmarks.harness import Call, race
from benchmarks.implementations import orm, rust
from benchmarks.implementations.baseline import Baseline, KnownChangesBaseline
from benchmarks.implementations.baseline_calls import BaselineCalls
from benchmarks.implementations.host import host_engine
from benchmarks.implementations.orm import Orm
from benchmarks.implementations.ours import Ours
from benchmarks.implementations.rust import Rust
from benchmarks.implementations.store import Store
from benchmarks.plan import QUICK
from benchmarks.progress import Silent
from benchmarks.proxy import DelayProxy
from benchmarks.report import ranked
from benchmarks.run import run
from benchmarks.samples import BEGIN, order, take_step
from benchmarks.scenario import Row, Target, at_least, at_most
from benchmarks.sections import SECTIONS
from benchmarks.server import Server
from tests.conftest import Sql
from wfe_postgres import Event, EventSubscription, ExecutionError, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.embedded import find_binaries

TINY = replace(
    QUICK,
    name="tiny",
    sizes=(1, 3),
    growth=(1, 3),
    race=0.02,
    min_calls=2,
    turn=3,
    slow_behind_delay=3,
    crowd=200,
    pointers_in_crowd=2,
    purged=60,
    listed=5,
    errors=5,
    steps=3,
    workflows=4,
    writers=(1, 2),
    threads=2,
    processes=2,
    slice=0.05,
    slices=1,
    pauses=0.2,
    remembered=20,
)
HERE = SECTIONS.keys() - {"imports"}  # which starts interpreters for seconds

# All columns but the revision; of the heartbeat only whether it is set.
WORKFLOW = """
SELECT to_jsonb(w) - 'revision' - 'last_heartbeat_at', last_heartbeat_at IS NULL FROM wfc.workflows w
"""
POINTERS = "SELECT to_jsonb(p) FROM wfc.execution_pointers p ORDER BY position"
IMPLEMENTATIONS: dict[str, Callable[[str], Store]] = {
    "ours": Ours,
    "baseline": Baseline,
    "known changes": KnownChangesBaseline,
    "rust": Rust,
    "orm": Orm,
}


def test_a_run_writes_its_results(server: str, tmp_path: Path) -> None:
    """Every section runs, and what it found stands in the three files."""
    report = run(TINY, Server(server), Silent(), [name for name in SECTIONS if name in HERE])
    document, table, picture = report.write(tmp_path)

    found = json.loads(document.read_text())
    assert {row["section"] for row in found["rows"]} == HERE
    assert all(row["met"] in (True, False) for row in found["rows"] if row["target"])
    assert found["server"]["fsync"] in ("on", "off")
    assert all(
        implementation["calls"] > 0 for race in found["races"] for implementation in race["implementations"].values()
    )

    lines = table.read_text().splitlines()
    assert len([line for line in lines if line.startswith("| save, 3 pointers | of the baseline | ")]) == 1
    assert "| save, 3 pointers, 1 ms each way | round trips | 1 | ≤ 1 | met |" in lines

    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")


def test_no_database_is_left_behind(server: str) -> None:
    """A run drops the databases that it has made."""
    run(TINY, Server(server), Silent(), ["threads"])
    with psycopg.connect(server) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'wfe_bench_%'").fetchall()
    assert names == []


@pytest.mark.parametrize("implementation", [Baseline, KnownChangesBaseline])
def test_baseline_stores_what_the_provider_stores(
    implementation: Callable[[str], Store], database_url: str, sql: Sql
) -> None:
    """After the same life two workflows are stored alike, pointers' ids and positions included."""
    stored = []
    for make in (Ours, implementation):
        with closing(make(database_url)) as store:
            _live(store)
        stored.append((sql(WORKFLOW), sql(POINTERS)))
        sql("TRUNCATE wfc.workflows CASCADE")
    assert len(stored[0][1]) == 6
    assert stored[0] == stored[1]


def test_baseline_saves_are_guarded(database_url: str) -> None:
    """As the provider's, a save with a stale revision writes nothing."""
    with closing(Baseline(database_url)) as baseline:
        instance = order(2)
        baseline.create(instance)
        stale = baseline.load(instance.id)
        take_step(instance)
        baseline.save(instance)
        with pytest.raises(AssertionError):
            baseline.save(stale)
        assert baseline.load(instance.id) == instance


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_way_keeps_the_same_workflow(implementation: str, empty_database_url: str) -> None:
    """What one has lived through, and what is loaded of it, are equal."""
    with PostgresPersistenceProvider(empty_database_url) as provider:
        provider.ensure_store_exists()
    rust.create_tables(empty_database_url)
    orm.create_tables(empty_database_url)
    with closing(IMPLEMENTATIONS[implementation](empty_database_url)) as store:
        instance = _live(store)
        assert len(instance.execution_pointers) == 6
        assert store.load(instance.id) == instance
        store.clear()
        store.create(instance)


def test_small_calls_of_the_baseline_store_the_same(database_url: str, sql: Sql) -> None:
    """Events, tokens and errors are stored and read alike."""
    with PostgresPersistenceProvider(database_url) as provider, closing(BaselineCalls(database_url)) as baseline:
        events = [Event("paid", "O-1", {"amount": 1995}, event_time=BEGIN) for _ in range(2)]
        held = [provider.create_event_subscription(EventSubscription("w", 1, "p", "paid", "O-1")) for _ in events]
        provider.create_event(events[0])
        baseline.create_event(events[1])
        assert baseline.get_event(events[0].id) == provider.get_event(events[0].id) == events[0]
        provider.mark_event_processed(events[0].id)
        baseline.mark_event_processed(events[1].id)
        stored = sql("SELECT to_jsonb(e) - 'id' FROM wfc.events e")
        assert stored == [stored[0], stored[0]]
        assert stored[0][0]["is_processed"]

        assert provider.set_subscription_token(held[0], "token", "host", BEGIN)
        assert baseline.set_subscription_token(held[1], "token", "host", BEGIN)
        provider.create_new_workflow(order(1))
        now = datetime.now(UTC)
        assert len(baseline.get_runnable_instances(now)) == 1
        assert baseline.get_runnable_instances(now) == provider.get_runnable_instances(now)

        errors = [ExecutionError("w", "p", f"failure {n}", error_time=BEGIN) for n in range(3)]
        provider.persist_errors(errors)
        baseline.persist_errors(errors)
    alike = "SELECT to_jsonb(e) - 'id' - 'nonce' FROM wfc.execution_errors e ORDER BY id"
    stored = sql(alike)
    assert len(stored) == 6
    assert stored[:3] == stored[3:]


@pytest.mark.parametrize(
    "opened",
    [
        lambda url: in_one_process(host_engine, url, steps=3, threads=2, workflows=4),
        lambda url: in_processes(host_engine, url, steps=3, processes=2, workflows=2),
    ],
)
def test_a_call_of_the_hosts_ends_when_all_its_workflows_have_ended(
    opened: Callable[[str], AbstractContextManager[Call]], database_url: str, sql: Sql
) -> None:
    """In one process and in two."""
    with opened(database_url) as call:
        for calls in (1, 2):
            call()
            assert sql("SELECT status, count(*) FROM wfc.workflows GROUP BY status") == [("Complete", 4 * calls)]
    assert sql("SELECT status, count(*) FROM wfc.execution_pointers GROUP BY status") == [("Complete", 24)]


def test_a_slow_way_takes_no_rounds_away() -> None:
    """It sits out, but is timed as often as was asked for; and the ratio says how much slower it is."""
    turns: list[str] = []
    slow = partial(time.sleep, 0.02)
    done = race(
        "sleeping",
        {"quick": lambda: partial(turns.append, "quick"), "slow": lambda: slow},
        seconds=0.1,
        min_calls=3,
        progress=Silent(),
    )
    gc.unfreeze()
    assert len(done.times["quick"]) > 3 <= len(done.times["slow"]) < 10
    assert done.ratio("slow", "quick").low > 10
    assert done.median("slow") >= 0.02 > sum(done.cpu["slow"])


def test_a_turn_is_so_many_consecutive_calls_and_counts_as_one() -> None:
    """The time of a turn is the median of its calls."""
    calls: list[str] = []
    sleeps = iter([0.03, 0, 0] * 100)
    done = race(
        "turns",
        {"sleeping": lambda: partial(_sleep, calls, next(sleeps)), "other": lambda: partial(calls.append, "other")},
        seconds=0.1,
        min_calls=2,
        progress=Silent(),
        turn=3,
    )
    gc.unfreeze()
    _, *turns = [len([*group]) for name, group in groupby(calls) if name == "sleeping"]  # without the warm-up
    assert turns[0] == 3
    assert all(turn % 3 == 0 for turn in turns)
    assert len(done.times["sleeping"]) >= 2
    assert max(done.times["sleeping"]) < 0.03


def _sleep(calls: list[str], seconds: float) -> None:
    calls.append("sleeping")
    time.sleep(seconds)


def test_results_on_another_server_are_named_after_its_version(tmp_path: Path) -> None:
    """The name says the size of the run, the version and the sections."""
    directory = find_binaries()
    main(["--quick", "--only", "memory", "--server", str(directory), "--results", str(tmp_path)])
    version = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    major = version.split()[2].split(".")[0]
    assert {path.stem for path in tmp_path.iterdir()} == {f"quick-{major}-memory"}


def test_the_proxy_delays_and_counts(server: str) -> None:
    """A statement is one round trip, and takes the delay twice; so does a pipeline of two."""
    with DelayProxy(server, 0.01) as proxy, psycopg.connect(proxy.through(server), autocommit=True) as connection:
        for statements in (1, 2):
            before, begin = proxy.round_trips, time.monotonic()
            with connection.pipeline():
                for _ in range(statements):
                    connection.execute("SELECT 1")
            assert time.monotonic() - begin >= 0.02
            assert proxy.round_trips - before == 1


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(at_most(1.2), 1.2, True), (at_most(1.2), 1.21, False), (at_least(3), 2.9, False), (at_least(3), 3, True)],
)
def test_a_target_is_met_or_not(target: Target, value: float, met: bool) -> None:
    """At most and at least, the limit itself included."""
    assert Row("saves", "a save", "of the baseline", value, target=target).met is met


def _live(store: Store) -> WorkflowInstance:
    """A workflow's life: created, changed and loaded, with pointers that come and one that goes."""
    instance = order(4, id="order-1")
    store.create(instance)
    for _ in range(3):
        _step(store, instance)
    store.undo_step(instance)
    _step(store, instance)
    store.undo_step(instance)
    return instance


def _step(store: Store, instance: WorkflowInstance) -> None:
    take_step(instance)
    if isinstance(store, KnownChangesBaseline):
        last = len(instance.execution_pointers) - 1
        store.changed, store.removed = (last - 1, last), ()
    store.save(instance)


def test_missed_targets_come_first() -> None:
    met, missed, free = (Row("save", "", "", 2.0, target=it) for it in (at_most(3), at_most(1), None))
    assert ranked([met, free, missed]) == [missed, met, free]
