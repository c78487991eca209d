"""A host killed while it takes tokens: each is either held for its time or free, and whoever comes next is the one."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from multiprocessing.connection import Connection as Pipe

import psycopg
import pytest

from tests.conftest import InProcesses, Sql
from tests.faults.kit.form import runs
from tests.provider.databases import OURS, wait_until
from wfe_postgres import PostgresPersistenceProvider, SubscriptionTokenError
from wfe_postgres.testing.conformance.support import TIMEOUT, from_now, subscription

TIME_TO_LIVE = 2.0
SOON = timedelta(seconds=1)
RIVALS = 4
HELD = "SELECT id, external_token_expiry FROM wfc.event_subscriptions WHERE external_token = 'dead'"
SERVER_TIME = "SELECT clock_timestamp()"

Share = tuple[datetime, list[tuple[str, datetime]]]
"""When a rival began, and which subscriptions it had, and when; by the server's clock."""


def take_all(url: str, ids: list[str], pipe: "Pipe[str, str]") -> None:
    """Take one after the other, and tell of each that is acknowledged."""
    with PostgresPersistenceProvider(url) as provider:
        for id in ids:
            assert provider.set_subscription_token(id, "dead", "dead", from_now(TIME_TO_LIVE))
            pipe.send(id)


def kill_while_taking(url: str, ids: list[str], chance: random.Random) -> list[str]:
    """Kill a holder at any moment after its first token; return those of which it could tell."""
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe(duplex=False)
    holder = context.Process(target=take_all, args=(url, ids, far))
    holder.start()
    far.close()
    assert near.poll(TIMEOUT)
    time.sleep(chance.uniform(0.0, 0.01))
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    return list(_told(near))


def _told(pipe: "Pipe[str, str]") -> Iterator[str]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def succeed(url: str, name: str, ids: list[str]) -> Share:
    """Try for all of them until each is some rival's."""
    taken = []
    left = list(ids)
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:
        [(began,)] = server.execute(SERVER_TIME).fetchall()
        while left:
            for id in list(left):
                if provider.set_subscription_token(id, name, name, from_now(3600)):
                    taken.append((id, server.execute(SERVER_TIME).fetchall()[0][0]))
                if provider.get_subscription(id).external_token not in (None, "dead"):
                    left.remove(id)
            time.sleep(0.01)
    return began, taken


@pytest.mark.parametrize("seed", range(runs(1, 25)))
def test_a_holder_killed_at_any_moment(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, in_processes: InProcesses, seed: int
) -> None:
    """It holds what it was told it holds, and at most one more, until its time is up; then each has one successor."""
    chance = random.Random(seed)
    told: list[str] = []
    ids: list[str] = []
    for _ in range(4):
        own = [provider.create_event_subscription(subscription()) for _ in range(50)]
        mine = sql(OURS)
        acknowledged = kill_while_taking(database_url, own, chance)
        wait_until(lambda: set(sql(OURS)) <= set(mine))  # noqa: B023
        held = set(dict(sql(HELD))) & set(own)
        assert held - {own[min(len(acknowledged), 49)]} <= set(acknowledged) <= held
        told += acknowledged
        ids += own[: len(acknowledged) + 2]
    expiries: dict[str, datetime] = dict(sql(HELD))
    [(killed,)] = sql(SERVER_TIME)
    assert killed < max(expiries.values()), "nobody has to wait"

    arguments = [(database_url, str(name), ids) for name in range(RIVALS)]
    shares: list[Share] = in_processes(succeed, arguments, method="fork")
    ready = max(began for began, _ in shares)
    taken = dict(each for _, share in shares for each in share)
    assert sum(len(share) for _, share in shares) == len(taken) == len(ids)
    for id, expiry in expiries.items():
        assert expiry <= taken[id] < max(expiry, ready) + SOON
    for id in told:
        successor = provider.get_subscription(id)
        with pytest.raises(SubscriptionTokenError):
            provider.clear_subscription_token(id, "dead")
        assert provider.get_subscription(id) == successor
