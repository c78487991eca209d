"""A migration is not the outage: what it does to tables on which others are at work."""

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
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


@contextmanager
def in_a_thread(work: Callable[..., object], *arguments: object) -> Iterator[Future[object]]:
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(work, *arguments)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is sent in the meantime, by anybody in this process."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


def test_no_table_is_rewritten(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    files, rows = sql(FILES), rows_of(empty_database_url)
    looks = "SELECT ctid::text, xmin::text FROM wfc.workflows UNION ALL SELECT ctid::text, xmin::text FROM wfc.events"
    places = sql(looks)
    upgrade_store(empty_database_url)
    assert [file for file in sql(FILES) if file[0] != "alembic_version"] == files
    assert sql(looks) == places
    assert rows_of(empty_database_url, rows) == rows


def test_what_was_there_before_comes_first(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    upgrade_store(empty_database_url)
    assert sql("SELECT DISTINCT position FROM wfc.execution_pointers") == [(0,)]
    assert sql("SELECT DISTINCT revision FROM wfc.workflows") == [(0,)]
    sql("INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('p0', 'w1', 2, 'Pending')")
    found = sql("SELECT id FROM wfc.execution_pointers WHERE workflow_id = 'w1' ORDER BY position, id")
    assert found == [("p1",), ("p2",), ("p0",)]


def test_an_attempt_gives_up_after_two_seconds_and_another_succeeds(empty_database_url: str, sql: Sql) -> None:
    """A reader in a long transaction holds ACCESS SHARE; who queues behind the migration waits no longer than it."""
    make_rust_store(empty_database_url)
    with psycopg.connect(empty_database_url) as outsider, statements() as sent:
        outsider.execute("SELECT count(*) FROM wfc.execution_pointers")
        with in_a_thread(upgrade_store, empty_database_url) as upgrade:
            wait_until(lambda: any("ADD COLUMN position" in statement for statement in sent))
            slowest = 0.0
            while sum("ADD COLUMN position" in statement for statement in sent) < 3:
                began = time.monotonic()
                sql("SELECT count(*) FROM wfc.execution_pointers")
                slowest = max(slowest, time.monotonic() - began)
                assert not upgrade.done()
            assert revision_of(empty_database_url) == "0001"
            assert sql("SELECT to_regclass('wfc.execution_pointers_position_seq')") == [(None,)]
            outsider.rollback()
            upgrade.result(timeout=30)
    assert 0.5 < slowest < 2.5
    assert differences(empty_database_url) == []


def test_patience_has_an_end(empty_database_url: str) -> None:
    make_rust_store(empty_database_url)
    with psycopg.connect(empty_database_url) as outsider, engine_for(empty_database_url) as engine:
        outsider.execute("SELECT count(*) FROM wfc.execution_pointers")
        with pytest.raises(StoreNotReadyError, match="in use by a long transaction: try again later"):
            store.upgrade(engine, timeout=1)
    assert revision_of(empty_database_url) == "0001"


def test_an_index_is_built_while_others_write(empty_database_url: str, sql: Sql) -> None:
    """A writer's open transaction holds up the build, which holds up no other writer."""
    make_rust_store(empty_database_url, MANY_EVENTS)
    with psycopg.connect(empty_database_url) as outsider, in_a_thread(upgrade_store, empty_database_url) as upgrade:
        outsider.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        wait_until(lambda: sql(BUILDING))
        sql("SET lock_timeout = '1s'")
        sql("INSERT INTO wfc.events (id, event_name, event_key, event_time) VALUES ('new', 'n', 'k', now())")
        sql("UPDATE wfc.events SET is_processed = true WHERE id = 'many2'")
        sql("DELETE FROM wfc.events WHERE id = 'many3'")
        assert not upgrade.done()
        outsider.commit()
        upgrade.result(timeout=30)
    assert differences(empty_database_url) == []


@pytest.mark.parametrize("ghost", [True, False])
def test_a_build_that_was_killed_is_done_again(empty_database_url: str, sql: Sql, ghost: bool) -> None:
    """The process is killed while its index is being built; its backend (a ghost) may even go on with that."""
    make_rust_store(empty_database_url, MANY_EVENTS)
    with psycopg.connect(empty_database_url) as outsider:
        outsider.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        victim = FORKING.Process(target=upgrade_store, args=(empty_database_url,))
        victim.start()
        wait_until(lambda: sql(BUILDING))
        os.kill(victim.pid or 0, signal.SIGKILL)
        victim.join()
        if not ghost:
            sql(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS building")
            wait_until(lambda: not sql(BUILDING))
        invalid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'wfc.idx_events_unprocessed'::regclass"
        assert sql(invalid) == [(False,)]
        assert revision_of(empty_database_url) == "0005"
        with statements() as sent, in_a_thread(upgrade_store, empty_database_url) as upgrade:
            wait_until(lambda: any("idx_events_unprocessed" in statement for statement in sent))
            outsider.commit()
            upgrade.result(timeout=30)
    assert differences(empty_database_url) == []
    assert sql("SELECT relname FROM pg_class WHERE relname LIKE '%unfinished'") == []


def test_a_new_store_waits_for_nobody_elses_long_transaction(empty_database_url: str, sql: Sql) -> None:
    """A backup of the application's tables in the same database holds a snapshot for hours."""
    sql("CREATE TABLE public.customers (id INT)")
    with psycopg.connect(empty_database_url) as backup:
        backup.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        backup.execute("SELECT count(*) FROM public.customers")
        upgrade_store(empty_database_url, timeout=5)
    assert differences(empty_database_url) == []


def test_timeouts_of_the_role_do_not_cut_a_migration_short(empty_database_url: str, sql: Sql) -> None:
    [(name,)] = sql("SELECT current_database()")
    alembic(empty_database_url, command.upgrade, "0002")
    for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
        sql(f"ALTER DATABASE {name} SET {timeout} = '300ms'")
    with psycopg.connect(empty_database_url) as outsider, in_a_thread(upgrade_store, empty_database_url) as upgrade:
        outsider.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        outsider.execute("SELECT count(*) FROM wfc.workflows")
        wait_until(lambda: sql(LONG_WAIT))
        outsider.rollback()
        upgrade.result(timeout=30)
    assert differences(empty_database_url) == []
