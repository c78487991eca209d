"""Locks among processes: one holder at a time, also when holders are killed, frozen, or have a wrong clock."""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
import pytest

from tests.conftest import InProcesses, Sql
from tests.faults.kit.clock import HOUR, Clock
from tests.faults.kit.form import runs
from tests.services.conftest import MakeLocks, StartHolder
from wfe_postgres.services import PostgresLockProvider
from wfe_postgres.testing.conformance.support import eventually

PROCESSES = runs(8, 32)
ROUNDS = runs(60, 1000)
LEASE = 1.5
SPENT = "SELECT extract(epoch FROM clock_timestamp() - acquired_at)::float FROM wfc.lock_leases"

# Written by each holder while it has the lock.
GUARDED = """
    CREATE TABLE public.guarded (number bigserial, token bigint NOT NULL);
    CREATE TABLE public.inside (many int NOT NULL CHECK (many BETWEEN 0 AND 1));
    INSERT INTO public.inside VALUES (0)
"""


def try_each_round(url: str, barrier: Barrier) -> list[int | None]:
    """The fencing numbers of the rounds in which this process acquired the lock, which all try at the same time."""
    locks = PostgresLockProvider(url, pool_size=1)
    tokens: list[int | None] = []
    for _ in range(ROUNDS):
        barrier.wait(60)
        acquired = locks.acquire_lock("order")
        tokens.append(locks.token("order") if acquired else None)
        barrier.wait(60)
        locks.release_lock("order")
    locks.close()
    return tokens


def test_one_of_many_processes_holds_the_lock_in_each_round(database_url: str, in_processes: InProcesses) -> None:
    barrier = multiprocessing.get_context("fork").Barrier(PROCESSES)
    arguments = [(database_url, barrier)] * PROCESSES
    found = in_processes(try_each_round, arguments, method="fork", timeout=runs(100, 1500))
    winners = [[token for token in tokens if token is not None] for tokens in zip(*found, strict=True)]
    assert [len(tokens) for tokens in winners] == [1] * ROUNDS
    assert sorted(winners) == winners


def enter_and_leave(url: str, times: int) -> int:
    """How many times the lock was acquired, without any pause between the tries."""
    locks, entered = PostgresLockProvider(url, pool_size=1), 0
    with psycopg.connect(url, autocommit=True) as connection:
        while entered < times:
            with locks.lock("order") as acquired:
                if acquired:
                    connection.execute("UPDATE public.inside SET many = many + 1")
                    connection.execute("INSERT INTO public.guarded (token) VALUES (%s)", [locks.token("order")])
                    connection.execute("UPDATE public.inside SET many = many - 1")
                    entered += 1
    locks.close()
    return entered


def test_what_holders_do_never_overlaps_and_their_fencing_numbers_rise(
    database_url: str, in_processes: InProcesses, sql: Sql
) -> None:
    """The numbers rise in the order in which the lock is acquired, and not only when it was taken at rest."""
    sql(GUARDED)
    times = runs(25, 100)
    arguments = [(database_url, times)] * PROCESSES
    in_processes(enter_and_leave, arguments, method="fork", timeout=runs(100, 1500))
    tokens = [token for (token,) in sql("SELECT token FROM public.guarded ORDER BY number")]
    assert len(tokens) == times * PROCESSES
    assert sorted(set(tokens)) == tokens


def test_lock_of_a_killed_holder_is_free_after_the_lease(
    make_locks: MakeLocks, start_holder: StartHolder, sql: Sql
) -> None:
    for _ in range(runs(1, 10)):
        holder, locks = start_holder(LEASE), make_locks()
        assert holder("acquire_lock", "order")
        before = holder("token", "order")
        holder.kill()
        spent = 0.0
        while not locks.acquire_lock("order"):
            [(spent,)] = sql(SPENT)
            time.sleep(0.01)
        assert spent > LEASE * 0.9, "it was free before the lease had ended"
        after = locks.token("order")
        assert after is not None
        assert after > before
        locks.release_lock("order")


def test_holder_that_was_frozen_past_its_lease_learns_it(make_locks: MakeLocks, start_holder: StartHolder) -> None:
    for _ in range(runs(1, 10)):
        holder, locks = start_holder(LEASE), make_locks()
        assert holder("acquire_lock", "order")
        before = holder("token", "order")
        holder.freeze()
        eventually(lambda: locks.acquire_lock("order"))  # noqa: B023
        holder.thaw()
        assert holder("is_held", "order") is False
        assert holder("token", "order") is None
        eventually(lambda: holder("lost") == ["order"])  # noqa: B023
        [warning] = holder("warnings")
        assert "'order'" in warning
        holder("release_lock", "order")
        after = locks.token("order")
        assert after is not None
        assert after > before
        assert locks.is_held("order")
        assert not holder("acquire_lock", "order")
        locks.release_lock("order")


def test_holder_that_was_frozen_without_a_rival_learns_it_too(start_holder: StartHolder) -> None:
    """For a moment everybody could have acquired the lock."""
    holder = start_holder(LEASE)
    assert holder("acquire_lock", "order")
    holder.freeze()
    time.sleep(LEASE + 0.2)
    holder.thaw()
    assert holder("is_held", "order") is False
    eventually(lambda: holder("lost") == ["order"])


def test_holder_that_was_frozen_for_a_shorter_time_keeps_the_lock(
    make_locks: MakeLocks, start_holder: StartHolder
) -> None:
    holder, locks = start_holder(20.0), make_locks()
    assert holder("acquire_lock", "order")
    holder.freeze()
    time.sleep(1)
    assert not locks.acquire_lock("order")
    holder.thaw()
    assert holder("is_held", "order")
    assert holder("lost") == []


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_clock_of_a_holder_does_not_matter(
    make_locks: MakeLocks, start_holder: StartHolder, tmp_path: Path, ahead: int
) -> None:
    """Neither a wrong clock nor one that is set makes a lock end early or late."""
    clock = Clock(tmp_path / "clock", ahead)
    locks = make_locks(lease=LEASE)
    with clock.followed():
        wrong = start_holder(LEASE, spawn=True)
        assert locks.acquire_lock("right")
        assert wrong("acquire_lock", "wrong")
        clock.set(-2 * ahead)
        end = time.monotonic() + 2 * LEASE
        while time.monotonic() < end:
            assert not wrong("acquire_lock", "right")
            assert not locks.acquire_lock("wrong")
            assert wrong("is_held", "wrong")
            time.sleep(0.05)
        wrong.kill()
    eventually(lambda: locks.acquire_lock("wrong"))
    assert locks.is_held("right")
