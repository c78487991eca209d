"""A lock that is acquired and released, beside the raw statements of a lock with a lease."""

from functools import partial
from typing import Any

import psycopg

from benchmarks.harness import Call
from benchmarks.scenario import BASELINE, OURS, Scenario, at_most
from wfe_postgres.services import PostgresLockProvider

# Without what a lost answer, a crash of the server or a busy lock may need.
ACQUIRE = """
    INSERT INTO wfc.lock_leases AS l (resource, holder, acquired_at, expires_at)
    VALUES (%s, 1, clock_timestamp(), clock_timestamp() + interval '30 seconds')
    ON CONFLICT (resource) DO UPDATE SET holder = excluded.holder, acquired_at = excluded.acquired_at,
        expires_at = excluded.expires_at
    WHERE l.expires_at <= clock_timestamp() RETURNING nextval('wfc.lock_tokens')
"""
RELEASE = "DELETE FROM wfc.lock_leases WHERE resource = %s AND holder = 1"
TITLE = "lock and unlock"


def run(scenario: Scenario) -> None:
    """Run on both routes."""
    for route in (scenario.near, scenario.far):
        url = route.through(scenario.url)
        with PostgresLockProvider(url) as locks, psycopg.connect(url, autocommit=True) as connection:
            calls: dict[str, Call] = {OURS: partial(_lock, locks), BASELINE: partial(_lock_by_hand, connection)}
            prepared = {name: partial(_unprepared, call) for name, call in calls.items()}
            race = scenario.race(TITLE, prepared, route=route)
        for name in calls:
            scenario.value(race.title, f"{name}: locks", 1 / race.median(name), "/s")
        scenario.ratio(race.title, "time of the raw statements", race.ratio(OURS, BASELINE), at_most(1.5))


def _unprepared(call: Call) -> Call:
    return call


def _lock(locks: PostgresLockProvider) -> None:
    if not locks.acquire_lock("ours"):
        raise RuntimeError("the lock is busy")
    locks.release_lock("ours")


def _lock_by_hand(connection: "psycopg.Connection[Any]") -> None:
    if not connection.execute(ACQUIRE, ["baseline"]).fetchall():
        raise RuntimeError("the lock is busy")
    connection.execute(RELEASE, ["baseline"])
