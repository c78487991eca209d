"""Migrations of tables in use: short locks, retries, and concurrent index builds."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine, event

from tests.conftest import Sql
from tests.migrations.forking import FORKING
from tests.migrations.stores import (
    MANY_EVENTS,
    alembic,
    differences,
    engine_for,
    layout_of,
    make_rust_store,
    revision_of,
    rows_of,
    upgrade_store,
)
from wfe_postgres import StoreNotReadyError
from wfe_postgres import schema as store

FILES = (
    "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind = 'r' ORDER BY 1"
)
BUILDING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
    " AND query LIKE 'CREATE INDEX CONCURRENTLY%idx_events_unprocessed%' AND wait_event_type = 'Lock'"
)
LONG_WAIT = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%ADD COLUMN revision%' AND clock_timestamp() - query_start > '1 s'"
)


def wait_until(reached: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


@contextmanager
def in_a_thread(work: Callable[..., object], *arguments: object) -> Iterator[Future[object]]:
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(work, *arguments)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Record the statements that this process executes in the block."""
    sent: list[str] = []

    def record(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield sent
    event.remove(Engine, "before_cursor_execute", record)


def test_upgrade_rewrites_no_table(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    files, rows = sql(FILES), rows_of(empty_database_url)
    query = "SELECT ctid::text, xmin::text FROM wfc.workflows UNION ALL SELECT ctid::text, xmin::text FROM wfc.events"
    row_versions = sql(query)
    upgrade_store(empty_database_url)
    assert set(files) <= set(sql(FILES))
    assert sql(query) == row_versions
    assert rows_of(empty_database_url, rows) == rows


def test_upgrade_keeps_the_indexes_of_the_rust_layout(empty_database_url: str) -> None:
    """As they are, not under the same name only: a Rust host creates them at every start, if they are missing."""
    make_rust_store(empty_database_url)
    before = {name: it for name, it in layout_of(empty_database_url).items() if name.startswith("index ")}
    upgrade_store(empty_database_url)
    assert len(before) == 8
    assert before.items() <= layout_of(empty_database_url).items()


def test_existing_pointers_sort_before_new_ones_after_upgrade(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    upgrade_store(empty_database_url)
    assert sql("SELECT DISTINCT position FROM wfc.execution_pointers") == [(0,)]
    assert sql("SELECT DISTINCT revision FROM wfc.workflows") == [(0,)]
    sql("INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('p0', 'w1', 2, 'Pending')")
    found = sql("SELECT id FROM wfc.execution_pointers WHERE workflow_id = 'w1' ORDER BY position, id")
    assert found == [("p1",), ("p2",), ("p0",)]


def test_migration_blocked_by_reader_times_out_and_retries(empty_database_url: str, sql: Sql) -> None:
    """A long transaction holds ACCESS SHARE; sessions queued behind the migration wait for one attempt at most."""
    make_rust_store(empty_database_url)
    with psycopg.connect(empty_database_url) as other, statements() as sent:
        other.execute("SELECT count(*) FROM wfc.execution_pointers")
        with in_a_thread(upgrade_store, empty_database_url) as upgrade:
            wait_until(lambda: any("ADD COLUMN position" in statement for statement in sent))
            slowest = 0.0
            while sum("ADD COLUMN position" in statement for statement in sent) < 3:
                started = time.monotonic()
                sql("SELECT count(*) FROM wfc.execution_pointers")
                slowest = max(slowest, time.monotonic() - started)
                assert not upgrade.done()
            assert revision_of(empty_database_url) == "0001"
            assert sql("SELECT to_regclass('wfc.execution_pointers_position_seq')") == [(None,)]
            other.rollback()
            upgrade.result(timeout=30)
    assert 0.5 < slowest < 2.5
    assert differences(empty_database_url) == []


def test_migration_blocked_beyond_timeout_raises_store_not_ready(empty_database_url: str) -> None:
    make_rust_store(empty_database_url)
    with psycopg.connect(empty_database_url) as other, engine_for(empty_database_url) as engine:
        other.execute("SELECT count(*) FROM wfc.execution_pointers")
        with pytest.raises(StoreNotReadyError, match="in use by a long transaction: try again later"):
            store.upgrade(engine, timeout=1)
    assert revision_of(empty_database_url) == "0001"


def test_index_build_does_not_block_writers(empty_database_url: str, sql: Sql) -> None:
    """An open transaction delays the concurrent index build, but other writers are not blocked."""
    make_rust_store(empty_database_url, MANY_EVENTS)
    with psycopg.connect(empty_database_url) as other, in_a_thread(upgrade_store, empty_database_url) as upgrade:
        other.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        wait_until(lambda: sql(BUILDING))
        sql("SET lock_timeout = '1s'")
        sql("INSERT INTO wfc.events (id, event_name, event_key, event_time) VALUES ('new', 'n', 'k', now())")
        sql("UPDATE wfc.events SET is_processed = true WHERE id = 'many2'")
        sql("DELETE FROM wfc.events WHERE id = 'many3'")
        assert not upgrade.done()
        other.commit()
        upgrade.result(timeout=30)
    assert differences(empty_database_url) == []


@pytest.mark.parametrize("backend_survives", [True, False])
def test_index_build_of_killed_process_is_repeated(empty_database_url: str, sql: Sql, backend_survives: bool) -> None:
    """The process is killed during the index build; its backend may continue with the build."""
    make_rust_store(empty_database_url, MANY_EVENTS)
    with psycopg.connect(empty_database_url) as other:
        other.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        killed = FORKING.Process(target=upgrade_store, args=(empty_database_url,))
        killed.start()
        wait_until(lambda: sql(BUILDING))
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.join()
        if not backend_survives:
            sql(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS building")
            wait_until(lambda: not sql(BUILDING))
        invalid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'wfc.idx_events_unprocessed'::regclass"
        assert sql(invalid) == [(False,)]
        assert revision_of(empty_database_url) == "0005"
        with statements() as sent, in_a_thread(upgrade_store, empty_database_url) as upgrade:
            wait_until(lambda: any("idx_events_unprocessed" in statement for statement in sent))
            other.commit()
            upgrade.result(timeout=30)
    assert differences(empty_database_url) == []
    assert sql("SELECT relname FROM pg_class WHERE relname LIKE '%unfinished'") == []


def test_creation_of_store_does_not_wait_for_unrelated_transactions(empty_database_url: str, sql: Sql) -> None:
    """For example a backup of other tables in the same database, which holds a snapshot for hours."""
    sql("CREATE TABLE public.customers (id INT)")
    with psycopg.connect(empty_database_url) as backup:
        backup.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        backup.execute("SELECT count(*) FROM public.customers")
        upgrade_store(empty_database_url, timeout=5)
    assert differences(empty_database_url) == []


def test_timeouts_of_database_do_not_interrupt_migration(empty_database_url: str, sql: Sql) -> None:
    [(name,)] = sql("SELECT current_database()")
    alembic(empty_database_url, command.upgrade, "0002")
    for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
        sql(f"ALTER DATABASE {name} SET {timeout} = '300ms'")
    with psycopg.connect(empty_database_url) as other, in_a_thread(upgrade_store, empty_database_url) as upgrade:
        other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        other.execute("SELECT count(*) FROM wfc.workflows")
        wait_until(lambda: sql(LONG_WAIT))
        other.rollback()
        upgrade.result(timeout=30)
    assert differences(empty_database_url) == []
