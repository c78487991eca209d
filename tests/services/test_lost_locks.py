"""Locks that are lost: their holder knows it before anybody else can acquire them, and is told."""

import logging
import threading
import time

import pytest
from sqlalchemy import create_engine, make_url

from tests.conftest import Sql
from tests.faults.kit.proxy import PASS, Delay, Silence, TcpProxy
from tests.services.conftest import MakeLocks
from wfe_postgres.services import PostgresLockProvider
from wfe_postgres.testing.conformance.support import eventually

SHORT = 1.0
"""A lease that ends in a test."""

ROWS = "SELECT resource FROM wfc.lock_leases ORDER BY resource"
END = "UPDATE wfc.lock_leases SET expires_at = clock_timestamp()"
LEFT_BEHIND = """
    INSERT INTO wfc.lock_leases (resource, holder, acquired_at, expires_at)
    SELECT 'dead ' || i, i, clock_timestamp(), clock_timestamp() - i * interval '10 minutes'
    FROM generate_series(1, 12) i
"""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning about locks."""
    return [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING and "lock" in it.getMessage()]


def test_lock_whose_row_is_gone_is_lost_at_the_next_renewal(
    make_locks: MakeLocks, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[str] = []
    locks, others = make_locks(lease=SHORT, on_lost=lost.append), make_locks()
    assert all(locks.acquire_lock(it) for it in ("lost", "kept"))
    sql(f"{END} WHERE resource = 'lost'")
    assert others.acquire_lock("lost")
    eventually(lambda: lost)
    assert not locks.is_held("lost")
    assert locks.is_held("kept")
    locks.release_lock("lost")
    assert not make_locks().acquire_lock("lost"), "the lock of its new holder was released"
    time.sleep(2 * SHORT)
    assert lost == ["lost"]
    assert [it for it in warnings(caplog) if "'lost'" in it] == warnings(caplog) != []


def test_lock_that_was_lost_can_be_acquired_again(make_locks: MakeLocks, sql: Sql) -> None:
    lost: list[str] = []
    locks = make_locks(lease=SHORT, on_lost=lost.append)
    assert locks.acquire_lock("order")
    first = locks.token("order")
    sql("DELETE FROM wfc.lock_leases")
    assert locks.acquire_lock("order")
    second = locks.token("order")
    assert first is not None
    assert second is not None
    assert second > first
    eventually(lambda: lost == ["order"])
    time.sleep(2 * SHORT)
    assert locks.is_held("order")
    assert lost == ["order"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_callback_that_raises_stops_no_renewal(
    make_locks: MakeLocks, sql: Sql, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def fail(_: str) -> None:
        raise error

    locks = make_locks(lease=SHORT, on_lost=fail)
    assert all(locks.acquire_lock(it) for it in ("lost", "kept"))
    sql("DELETE FROM wfc.lock_leases WHERE resource = 'lost'")
    eventually(lambda: [it for it in caplog.records if it.exc_info and "'lost'" in it.getMessage()])
    time.sleep(2 * SHORT)
    assert locks.is_held("kept")


def test_callback_that_blocks_stops_no_renewal(make_locks: MakeLocks, sql: Sql) -> None:
    called, goes_on = threading.Event(), threading.Event()

    def block(_: str) -> None:
        called.set()
        goes_on.wait(30)

    locks = make_locks(lease=SHORT, on_lost=block)
    assert all(locks.acquire_lock(it) for it in ("lost", "kept"))
    sql("DELETE FROM wfc.lock_leases WHERE resource = 'lost'")
    assert called.wait(30)
    time.sleep(2 * SHORT)
    assert locks.is_held("kept")
    goes_on.set()


def test_lock_whose_renewal_is_answered_too_late_stays_lost(make_locks: MakeLocks, sql: Sql, database_url: str) -> None:
    """Also while a callback keeps the provider from taking note of it."""
    called, goes_on = threading.Event(), threading.Event()

    def block(_: str) -> None:
        called.set()
        goes_on.wait(30)

    with TcpProxy(database_url) as proxy:
        engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
        locks = PostgresLockProvider.from_engine(engine, lease=SHORT, on_lost=block)
        assert all(locks.acquire_lock(it) for it in ("lost", "late"))
        sql("DELETE FROM wfc.lock_leases WHERE resource = 'lost'")
        assert called.wait(30)
        proxy.fault = Delay(0.8 * SHORT)  # after the end of the lease, and before that of the renewed one
        held, end = [], time.monotonic() + 4 * SHORT
        while time.monotonic() < end:
            held.append(locks.is_held("late"))
            time.sleep(0.01)
        assert not held[-1]
        assert held == sorted(held, reverse=True), "it was held again"
        goes_on.set()
        proxy.fault = PASS
        locks.close()
        engine.dispose()


@pytest.mark.parametrize("own_engine", [True, False])
def test_holder_that_is_cut_off_knows_it_before_another_one_can_acquire(
    make_locks: MakeLocks, database_url: str, own_engine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while the renewal waits for a server that does not answer, on an engine without a time limit."""
    lost: list[str] = []
    others = make_locks()
    with TcpProxy(database_url) as proxy:
        engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
        cut_off = (
            make_locks(proxy.url, lease=SHORT, on_lost=lost.append)
            if own_engine
            else PostgresLockProvider.from_engine(engine, lease=SHORT, on_lost=lost.append)
        )
        assert cut_off.acquire_lock("order")
        time.sleep(2 * SHORT)
        assert cut_off.is_held("order")
        proxy.fault = Silence(requests=False)
        while not others.acquire_lock("order"):
            time.sleep(0.002)
        assert not cut_off.is_held("order")
        eventually(lambda: lost == ["order"])
        proxy.cut()
        proxy.fault = Silence(answers=2**40)
        time.sleep(SHORT)
        assert not cut_off.is_held("order")
        assert others.is_held("order")
        cut_off.close()
        engine.dispose()
    assert [it for it in warnings(caplog) if "'order'" in it]


def test_stop_of_a_holder_that_is_cut_off_ends_and_logs(
    make_locks: MakeLocks, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TcpProxy(database_url) as proxy:
        locks = make_locks(proxy.url, call_timeout=2.0)
        assert locks.acquire_lock("order")
        proxy.fault = Silence(requests=False)
        locks.stop()
        assert not locks.is_held("order")
        assert warnings(caplog)
        locks.close()
