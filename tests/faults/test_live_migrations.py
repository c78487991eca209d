"""Migrations during concurrent writes: no statement waits longer than one attempt of the migration."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.form import LONG, runs
from tests.migrations.stores import differences, make_rust_store, revision_of, upgrade_store
from tests.migrations.test_live_tables import in_a_thread, statements, wait_until

ATTEMPT = 2.0  # the migrations' lock_timeout in seconds
NOISE = 1.0  # tolerance for waits on a busy machine, in seconds
LONGEST_WAIT = 1.0  # seconds

NEW_WORKFLOW = (
    "INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time)"
    " VALUES (%(id)s, %(id)s, 'order', 1, 'Runnable', now())"
)
NEW_POINTER = (
    "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES (%(id)s, %(id)s, 1, 'Pending')"
)
SAVE = "UPDATE wfc.workflows SET version = version + 1, next_execution = 5 WHERE id = %(id)s"
SAVE_POINTER = "UPDATE wfc.execution_pointers SET retry_count = retry_count + 1 WHERE id = %(id)s"
FOUND = (
    "SELECT w.id FROM wfc.workflows w JOIN wfc.execution_pointers p ON p.workflow_id = w.id"
    " WHERE w.version = 2 AND p.retry_count = 1"
)
LOAD = (
    "SELECT w.version, p.status FROM wfc.workflows w JOIN wfc.execution_pointers p ON p.workflow_id = w.id"
    " WHERE w.id = %(id)s"
)
A_MILLION_POINTERS = """
    INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time)
      SELECT 'old' || n, 'old' || n, 'order', 1, 'Complete', now() FROM generate_series(1, 10000) n;
    INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status, persistence_data)
      SELECT 'old' || n, 'old' || (n % 10000 + 1), 1, 'Complete', '{"tries": [1]}'
        FROM generate_series(1, 1000000) n;
"""


def run_a_host(url: str, name: str, stop: threading.Event, waits: list[float]) -> int:
    """Create, save and load workflows as a Rust host does until `stop` is set; return the number of workflows."""
    count = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            for statement in (NEW_WORKFLOW, NEW_POINTER, SAVE, SAVE_POINTER, LOAD):
                began = time.monotonic()
                connection.execute(statement.encode(), {"id": f"{name} {count}"})
                waits.append(time.monotonic() - began)
            count += 1
            time.sleep(0.002)
    return count


@contextmanager
def running_hosts(url: str) -> Iterator[list[float]]:
    """Run two hosts; yields the duration of each statement. No statement may fail, and all writes must be stored."""
    stop = threading.Event()
    waits: list[float] = []
    with ThreadPoolExecutor(2) as threads:
        hosts = {name: threads.submit(run_a_host, url, name, stop, waits) for name in ("first", "second")}
        try:
            yield waits
        finally:
            stop.set()
    written = [f"{name} {number}" for name, host in hosts.items() for number in range(host.result())]
    with psycopg.connect(url) as connection:
        found = connection.execute(FOUND).fetchall()
    assert sorted(id for (id,) in found) == sorted(written)
    counters.count("live migrations", acknowledged=5 * len(written))


def test_statements_wait_for_one_migration_attempt_when_a_transaction_blocks_it(
    empty_database_url: str, sql: Sql
) -> None:
    """An open transaction blocks the migration; statements queue behind its lock request for at most 2 seconds."""
    make_rust_store(empty_database_url)
    attempts = runs(2, 10)
    with (
        running_hosts(empty_database_url) as waits,
        psycopg.connect(empty_database_url) as reader,
        statements() as sent,
    ):
        reader.execute("SELECT count(*) FROM wfc.workflows")
        with in_a_thread(upgrade_store, empty_database_url) as upgrade:
            wait_until(lambda: sum("ADD COLUMN revision" in statement for statement in sent) > attempts, 100)
            assert not upgrade.done()
            assert revision_of(empty_database_url) == "0002"
            assert (
                sql("SELECT FROM pg_attribute WHERE attrelid = 'wfc.workflows'::regclass AND attname = 'revision'")
                == []
            )
            reader.rollback()
            upgrade.result(timeout=30)
    assert ATTEMPT / 2 < max(waits) < ATTEMPT + NOISE
    assert differences(empty_database_url) == []
    counters.count("live migrations", faults=attempts)


@pytest.mark.skipif(not LONG, reason="a million pointers are created in the long form only")
def test_statements_do_not_wait_when_indexes_of_many_pointers_are_built(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url, A_MILLION_POINTERS)
    with running_hosts(empty_database_url) as waits:
        upgrade_store(empty_database_url)
        after = len(waits)
        wait_until(lambda: len(waits) > after + 20)
    assert max(waits) < LONGEST_WAIT
    assert differences(empty_database_url) == []
