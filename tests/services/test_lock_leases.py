"""Leases and fencing numbers of locks on PostgreSQL, in one process."""

import os
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import event, make_url
from sqlalchemy.pool import QueuePool

from tests.conftest import InProcesses, Sql
from tests.protocol.proxy import Loss, Proxy
from tests.services.conftest import MakeLocks
from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres.services import PostgresLockProvider
from wfe_postgres.services.held_locks import now
from wfe_postgres.testing.conformance.support import eventually

SHORT = 1.0
"""A lease that ends in a test."""

ROWS = "SELECT resource FROM wfc.lock_leases ORDER BY resource"
END = "UPDATE wfc.lock_leases SET expires_at = clock_timestamp()"
# An acquisition of these sessions comes to a stop before its row is written.
STALLED = """
    CREATE FUNCTION public.stall() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('application_name') = 'stalled' THEN PERFORM pg_sleep(1.5); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER stall BEFORE INSERT ON wfc.lock_leases FOR EACH ROW EXECUTE FUNCTION public.stall()
"""
IS_STALLED = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'stalled' AND wait_event = 'PgSleep'"
LEFT_BEHIND = """
    INSERT INTO wfc.lock_leases (resource, holder, acquired_at, expires_at)
    SELECT 'dead ' || i, i, clock_timestamp(), clock_timestamp() - i * interval '10 minutes'
    FROM generate_series(1, 12) i
"""


def test_lock_is_held_for_longer_than_its_lease(make_locks: MakeLocks) -> None:
    locks, others = make_locks(lease=SHORT), make_locks()
    assert locks.acquire_lock("order")
    end = time.monotonic() + 3 * SHORT
    while time.monotonic() < end:
        assert locks.is_held("order")
        assert not others.acquire_lock("order")
        time.sleep(0.02)


def test_all_locks_are_renewed_by_one_statement(make_locks: MakeLocks, sql: Sql) -> None:
    locks = make_locks(lease=2.0)
    assert all(locks.acquire_lock(f"order {number}") for number in range(50))
    sent: list[str] = []
    event.listen(locks.engine, "before_cursor_execute", lambda *it: sent.append(it[2]))
    before = sql("SELECT resource, expires_at FROM wfc.lock_leases")
    eventually(lambda: sent)
    time.sleep(0.2)
    assert len(sent) == 1
    after = dict(sql("SELECT resource, expires_at FROM wfc.lock_leases"))
    assert len(after) == 50
    assert all(after[resource] > expires for resource, expires in before)


def test_lock_that_is_held_pins_no_connection(make_locks: MakeLocks, sql: Sql) -> None:
    locks = make_locks()
    assert locks.acquire_lock("order")
    assert isinstance(locks.engine.pool, QueuePool)
    assert locks.engine.pool.checkedout() == 0
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' OR (locktype = 'relation' AND granted AND pid <>"
    assert sql(f"{held} pg_backend_pid())") == [(0,)]


def test_fencing_numbers_rise_over_all_acquisitions(make_locks: MakeLocks, sql: Sql) -> None:
    """After releases, taking over, cleaning, and after the row was deleted by hand."""
    locks, others = make_locks(), make_locks()
    tokens: list[int] = []
    for number in range(20):
        holder = (locks, others)[number % 2]
        assert holder.acquire_lock("order")
        token = holder.token("order")
        assert token is not None
        tokens.append(token)
        if number == 5:
            sql("DELETE FROM wfc.lock_leases")
        elif number == 10:
            sql(f"{END} - interval '2 hours'")
            make_locks().start()
        elif number == 15:
            sql(END)
        else:
            holder.release_lock("order")
    assert tokens == sorted(set(tokens))
    assert locks.token("order") is None


def test_busy_lock_is_answered_while_its_row_is_being_changed(make_locks: MakeLocks, database_url: str) -> None:
    """By a renewal, a release or an operator whose transaction is open."""
    locks, others = make_locks(), make_locks(call_timeout=5.0)
    assert locks.acquire_lock("order")
    for statement in (
        "UPDATE wfc.lock_leases SET expires_at = now()",
        "DELETE FROM wfc.lock_leases",
        "SELECT FROM wfc.lock_leases FOR UPDATE",
    ):
        with psycopg.connect(database_url) as connection:
            connection.execute(statement.encode())
            assert others.acquire_lock("order") is False
            connection.rollback()


@pytest.mark.parametrize("loss", Loss)
def test_acquisition_whose_answer_was_lost_is_no_busy_lock(
    make_locks: MakeLocks, database_url: str, loss: Loss
) -> None:
    with Proxy(database_url) as proxy:
        locks, others = make_locks(proxy.url), make_locks()
        assert locks.acquire_lock("first")
        proxy.loss = loss
        assert locks.acquire_lock("order")
        assert proxy.loss is None
        assert locks.is_held("order")
        assert not others.acquire_lock("order")
        locks.release_lock("order")
        assert others.acquire_lock("order")
        locks.close()


def test_answer_that_cannot_be_had_is_an_error_and_no_busy_lock(database_url: str, empty_database_url: str) -> None:
    nowhere = make_url(database_url).set(host="127.0.0.1", port=1, query={}).render_as_string(False)
    for url, kind in ((nowhere, PersistenceError), (empty_database_url, StoreNotReadyError)):
        locks = PostgresLockProvider(url, retry_budget=0)
        with pytest.raises(kind):
            locks.acquire_lock("order")
        assert not locks.is_held("order")
        locks.release_lock("order")
        locks.close()


def test_fencing_number_of_an_acquisition_that_stalled_is_not_an_earlier_one(make_locks: MakeLocks, sql: Sql) -> None:
    """Another process acquires and releases the lock meanwhile."""
    sql(STALLED)
    slow, quick = make_locks(connect_args={"application_name": "stalled"}), make_locks()
    thread = threading.Thread(target=slow.acquire_lock, args=("order",))
    thread.start()
    eventually(lambda: sql(IS_STALLED))
    assert quick.acquire_lock("order")
    earlier = quick.token("order")
    quick.release_lock("order")
    thread.join()
    later = slow.token("order")
    assert earlier is not None
    assert later is not None
    assert later > earlier


def test_stop_releases_all_locks_by_one_statement(make_locks: MakeLocks, sql: Sql) -> None:
    locks = make_locks()
    assert all(locks.acquire_lock(f"order {number}") for number in range(20))
    sent: list[str] = []
    event.listen(locks.engine, "before_cursor_execute", lambda *it: sent.append(it[2]))
    locks.stop()
    locks.stop()
    assert len(sent) == 1
    assert sql(ROWS) == []


def test_start_deletes_rows_that_dead_processes_left_behind(make_locks: MakeLocks, sql: Sql) -> None:
    """Those whose leases ended over an hour ago, and no others."""
    sql(LEFT_BEHIND)
    locks = make_locks()
    assert locks.acquire_lock("held")
    make_locks().start()
    assert sql(ROWS) == [(f"dead {number}",) for number in range(1, 6)] + [("held",)]


def hold_and_fork(url: str) -> list[object]:
    """What a child process finds of the locks of its parent."""
    locks = PostgresLockProvider(url, lease=SHORT)
    assert locks.acquire_lock("parent's")
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            found: list[object] = [locks.is_held("parent's"), locks.token("parent's"), locks.acquire_lock("parent's")]
            locks.release_lock("parent's")
            locks.stop()
            found.append(locks.acquire_lock("child's"))
            time.sleep(3 * SHORT)  # renewed by a thread of the child
            found.append(locks.is_held("child's"))
            os.write(writing, repr(found).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found = [os.read(reading, 1000).decode(), locks.is_held("parent's"), locks.acquire_lock("child's")]
    locks.close()
    return found


def test_child_process_holds_nothing_and_releases_nothing(database_url: str, in_processes: InProcesses) -> None:
    """The child's own lock is busy for the parent, until its lease ends."""
    [found] = in_processes(hold_and_fork, [(database_url,)])
    assert found == ["[False, None, False, True, True]", True, False]


def test_threads_end_when_nothing_is_held(make_locks: MakeLocks) -> None:
    def serving() -> list[str]:
        return [it.name for it in threading.enumerate() if it.name.startswith("wfe_postgres-lock")]

    eventually(lambda: not serving())  # those of another test
    locks = make_locks(lease=SHORT)
    assert locks.acquire_lock("order")
    assert len(serving()) == 2
    locks.release_lock("order")
    eventually(lambda: not serving())
    assert locks.acquire_lock("order")
    time.sleep(2 * SHORT)
    assert locks.is_held("order")
    locks.stop()
    eventually(lambda: not serving())


@pytest.mark.parametrize("lease", [0, -1, float("nan"), float("inf")])
def test_lease_that_is_no_length_of_time_is_refused(database_url: str, lease: float) -> None:
    with pytest.raises(ValueError, match="lease"):
        PostgresLockProvider(database_url, lease=lease)


def test_clock_of_leases_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test or an application does with `time.monotonic`."""
    frozen: Callable[[], float] = lambda: 0.0  # noqa: E731
    monkeypatch.setattr(time, "monotonic", frozen)
    before = now()
    time.sleep(0.01)
    assert now() >= before + 0.01
