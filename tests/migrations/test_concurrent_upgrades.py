"""Concurrent upgrades by several hosts, and upgrades that are killed."""

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


def upgrade_after_barrier(start: Barrier, url: str, schema: str) -> None:
    start.wait()
    upgrade_store(url, schema)


def in_processes(url: str, schemas: list[str]) -> None:
    """Run one upgrade per schema, each in its own process and all at the same time; raise their errors."""
    with FORKING.Manager() as manager, ProcessPoolExecutor(len(schemas), mp_context=FORKING) as processes:
        start = manager.Barrier(len(schemas))
        for done in [processes.submit(upgrade_after_barrier, start, url, schema) for schema in schemas]:
            done.result(timeout=60)


@pytest.mark.parametrize("start", [None, "rust", "large", "0001", "0004"])
def test_eight_concurrent_processes_upgrade_once(empty_database_url: str, sql: Sql, start: str | None) -> None:
    if start in ("rust", "large"):
        make_rust_store(empty_database_url, *([MANY_EVENTS] if start == "large" else []))
    elif start is not None:
        alembic(empty_database_url, command.upgrade, start)
    in_processes(empty_database_url, ["wfc"] * 8)
    assert sql("SELECT version_num FROM wfc.alembic_version") == [(HEAD,)]
    assert differences(empty_database_url) == []
    assert sql(ADVISORY_LOCKS) == [(0,)]


def test_concurrent_upgrades_of_two_schemas_succeed(empty_database_url: str) -> None:
    in_processes(empty_database_url, ["wfc", "second"] * 3)
    assert differences(empty_database_url) + differences(empty_database_url, "second") == []


def test_sixteen_concurrent_threads_upgrade_once(empty_database_url: str) -> None:
    """Half of the threads share an engine with a pool of one connection."""
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


def test_upgrade_works_while_caller_holds_a_pool_connection(empty_database_url: str) -> None:
    url = make_url(empty_database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, pool_size=1, max_overflow=1, pool_timeout=1)
    with engine.connect() as held:
        held.exec_driver_sql("SELECT 1")
        store.ensure(engine)
        assert store.check(engine) == []
    engine.dispose()


def test_upgrade_uses_do_connect_listener_of_engine(empty_database_url: str) -> None:
    """A listener supplies the connections, and the engine's isolation level (AUTOCOMMIT) is overridden."""
    engine = create_engine(
        "postgresql+psycopg://nowhere.invalid", isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0
    )

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> psycopg.Connection[Any]:
        return psycopg.connect(empty_database_url)

    store.ensure(engine)
    assert store.check(engine) == []
    engine.dispose()


def upgrade_and_die_at(url: str, statement: int) -> None:
    """Upgrade, but kill this process before its `statement`-th statement; finish if there are fewer."""
    sent = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade_store(url)


def test_upgrade_killed_at_any_statement_is_completed_by_the_next(empty_database_url: str, sql: Sql) -> None:
    outcomes: list[int | None] = []
    statement = 3
    while not outcomes or outcomes[-1] == -signal.SIGKILL:
        sql("DROP SCHEMA IF EXISTS wfc CASCADE")
        child = FORKING.Process(target=upgrade_and_die_at, args=(empty_database_url, statement))
        child.start()
        child.join()
        outcomes.append(child.exitcode)
        found = revision_of(empty_database_url)
        there = sql("SELECT relname FROM pg_class WHERE relname = ANY (%s) AND relkind = 'r'", [list(TABLES)])
        assert len(there) == (7 if found else 0), f"incomplete schema revision after kill at statement {statement}"
        upgrade_store(empty_database_url)
        assert differences(empty_database_url) == [], f"killed at statement {statement}"
        statement += 11
    assert outcomes[-1] == 0
    assert len(outcomes) > 6


def test_upgrade_that_loses_its_lock_does_not_commit(empty_database_url: str, sql: Sql) -> None:
    """The backend that holds the advisory lock is terminated during a schema revision."""

    def terminate_holder(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "ADD COLUMN nonce" in statement:
            holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            assert sql(holder) == [(True,)]

    event.listen(Engine, "before_cursor_execute", terminate_holder)
    try:
        with pytest.raises(PersistenceError, match="connection to the database was lost") as caught:
            upgrade_store(empty_database_url)
    finally:
        event.remove(Engine, "before_cursor_execute", terminate_holder)
    assert caught.value.__context__ is None
    assert revision_of(empty_database_url) == "0004"
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []


def test_upgrade_blocked_by_another_times_out(empty_database_url: str) -> None:
    """Another session holds the advisory lock, whose key is read from pg_locks during an upgrade."""
    with psycopg.connect(empty_database_url) as other:
        keys: list[tuple[int, int]] = []

        def watch(connection: object, cursor: object, statement: str, *_: object) -> None:
            if "CREATE SEQUENCE" in statement and not keys:
                found = other.execute(
                    "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
                ).fetchall()
                keys.extend((high, low) for high, low in found)

        event.listen(Engine, "before_cursor_execute", watch)
        try:
            upgrade_store(empty_database_url)
        finally:
            event.remove(Engine, "before_cursor_execute", watch)
        [(high, low)] = keys
        other.execute("SELECT pg_advisory_xact_lock((%s::bigint << 32) | %s::bigint)", (high, low))
        with engine_for(empty_database_url) as engine, pytest.raises(StoreNotReadyError, match="still upgrading"):
            store.upgrade(engine, timeout=0.3)


def test_upgrade_concurrent_with_rust_host_startup_succeeds(empty_database_url: str) -> None:
    """The Rust host does not take the advisory lock: at worst one of the two retries, and both succeed."""
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

    def upgrade_with_retries() -> None:
        start.wait()
        for _ in range(5):
            try:
                return upgrade_store(empty_database_url)
            except PersistenceError:
                continue
        return None

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(rust), threads.submit(upgrade_with_retries)]:
            done.result()
    assert differences(empty_database_url) == []
