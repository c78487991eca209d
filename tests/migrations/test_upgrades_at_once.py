"""Any number of hosts may start at the same moment, and any of them may be killed while it upgrades."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, event, make_url

from tests.conftest import Sql
from tests.migrations.forking import FORKING
from tests.migrations.stores import (
    MANY_EVENTS,
    RUST_LAYOUT,
    TABLES,
    alembic,
    differences,
    engine_for,
    make_rust_store,
    revision_of,
    upgrade_store,
)
from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres import schema as store
from wfe_postgres.schema import HEAD

ADVISORY_LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def upgrade_at_once(start: Barrier, url: str, schema: str) -> None:
    start.wait()
    upgrade_store(url, schema)


def in_processes(url: str, schemas: list[str]) -> None:
    """One upgrade a process, all let go at the same moment; what one of them raises is raised here."""
    with FORKING.Manager() as manager, ProcessPoolExecutor(len(schemas), mp_context=FORKING) as processes:
        start = manager.Barrier(len(schemas))
        for done in [processes.submit(upgrade_at_once, start, url, schema) for schema in schemas]:
            done.result(timeout=60)


@pytest.mark.parametrize("start", [None, "rust", "large", "0001", "0004"])
def test_eight_processes_at_once(empty_database_url: str, sql: Sql, start: str | None) -> None:
    if start in ("rust", "large"):
        make_rust_store(empty_database_url, *([MANY_EVENTS] if start == "large" else []))
    elif start is not None:
        alembic(empty_database_url, command.upgrade, start)
    in_processes(empty_database_url, ["wfc"] * 8)
    assert sql("SELECT version_num FROM wfc.alembic_version") == [(HEAD,)]
    assert differences(empty_database_url) == []
    assert sql(ADVISORY_LOCKS) == [(0,)]


def test_two_schemas_at_once(empty_database_url: str) -> None:
    in_processes(empty_database_url, ["wfc", "second"] * 3)
    assert differences(empty_database_url) + differences(empty_database_url, "second") == []


def test_sixteen_threads_at_once(empty_database_url: str) -> None:
    """Half of them share an engine whose pool has one connection."""
    url = make_url(empty_database_url).set(drivername="postgresql+psycopg")
    shared = create_engine(url, pool_size=1, max_overflow=0)
    start = Barrier(16)

    def upgrade(number: int) -> None:
        start.wait()
        if number % 2:
            store.ensure(shared)
        else:
            upgrade_store(empty_database_url)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(upgrade, range(16)))
    shared.dispose()
    assert differences(empty_database_url) == []


def test_the_caller_may_hold_the_only_connection_of_the_pool(empty_database_url: str) -> None:
    url = make_url(empty_database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, pool_size=1, max_overflow=1, pool_timeout=1)
    with engine.connect() as held:
        held.exec_driver_sql("SELECT 1")
        store.ensure(engine)
        assert store.check(engine) == []
    engine.dispose()


def test_an_engine_that_connects_in_its_own_way_is_taken_at_its_word(empty_database_url: str) -> None:
    """The address from elsewhere at every connect; a default isolation level that no migration could use."""
    engine = create_engine(
        "postgresql+psycopg://nowhere.invalid", isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0
    )

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> psycopg.Connection[Any]:
        return psycopg.connect(empty_database_url)

    store.ensure(engine)
    assert store.check(engine) == []
    engine.dispose()


def die_at(url: str, statement: int) -> None:
    """Upgrade, and be killed just before that many statements were sent; go on if there are not so many."""
    sent = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade_store(url)


def test_a_process_killed_at_any_statement_leaves_a_store_that_the_next_completes(
    empty_database_url: str, sql: Sql
) -> None:
    outcomes: list[int | None] = []
    statement = 3
    while not outcomes or outcomes[-1] == -signal.SIGKILL:
        sql("DROP SCHEMA IF EXISTS wfc CASCADE")
        child = FORKING.Process(target=die_at, args=(empty_database_url, statement))
        child.start()
        child.join()
        outcomes.append(child.exitcode)
        found = revision_of(empty_database_url)
        there = sql("SELECT relname FROM pg_class WHERE relname = ANY (%s) AND relkind = 'r'", [list(TABLES)])
        assert len(there) == (7 if found else 0), f"half a revision at statement {statement}"
        upgrade_store(empty_database_url)
        assert differences(empty_database_url) == [], f"killed at statement {statement}"
        statement += 11
    assert outcomes[-1] == 0
    assert len(outcomes) > 6


def test_whoever_lost_the_lock_does_not_commit(empty_database_url: str, sql: Sql) -> None:
    """The backend that holds the lock is shot while a revision is under way."""

    def shoot(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "ADD COLUMN nonce" in statement:
            holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            assert sql(holder) == [(True,)]

    event.listen(Engine, "before_cursor_execute", shoot)
    try:
        with pytest.raises(PersistenceError, match="connection to the database was lost") as caught:
            upgrade_store(empty_database_url)
    finally:
        event.remove(Engine, "before_cursor_execute", shoot)
    assert caught.value.__context__ is None
    assert revision_of(empty_database_url) == "0004"
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []


def test_nobody_waits_for_ever_for_another_upgrade(empty_database_url: str) -> None:
    """Somebody sits on the lock: it is found by watching an upgrade take it."""
    with psycopg.connect(empty_database_url) as outsider:
        keys: list[tuple[int, int]] = []

        def watch(connection: object, cursor: object, statement: str, *_: object) -> None:
            if "CREATE SEQUENCE" in statement and not keys:
                found = outsider.execute(
                    "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
                ).fetchall()
                keys.extend((high, low) for high, low in found)

        event.listen(Engine, "before_cursor_execute", watch)
        try:
            upgrade_store(empty_database_url)
        finally:
            event.remove(Engine, "before_cursor_execute", watch)
        [(high, low)] = keys
        outsider.execute("SELECT pg_advisory_xact_lock((%s::bigint << 32) | %s::bigint)", (high, low))
        with engine_for(empty_database_url) as engine, pytest.raises(StoreNotReadyError, match="still upgrading"):
            store.upgrade(engine, timeout=0.3)


def test_an_upgrade_beside_a_rust_host_that_lays_out_its_tables(empty_database_url: str) -> None:
    """The Rust host takes no lock of ours: at worst one of the two starts again, and both are content."""
    start = Barrier(2)

    def rust() -> None:
        start.wait()
        for _ in range(5):
            try:
                with psycopg.connect(empty_database_url) as connection:
                    connection.execute(RUST_LAYOUT.encode())
                return
            except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DeadlockDetected):
                continue

    def ours() -> None:
        start.wait()
        for _ in range(5):
            try:
                return upgrade_store(empty_database_url)
            except PersistenceError:
                continue
        return None

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(rust), threads.submit(ours)]:
            done.result()
    assert differences(empty_database_url) == []
