"""Processes killed while they set tokens: each token expires, and one other process takes it over."""

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
SUCCESSORS = 4
HELD = "SELECT id, external_token_expiry FROM wfc.event_subscriptions WHERE external_token = 'dead'"
SERVER_TIME = "SELECT clock_timestamp()"

Successes = tuple[datetime, list[tuple[str, datetime]]]
"""When a process started, and the tokens that it set with their times, by the clock of the server."""


def set_tokens(url: str, ids: list[str], pipe: "Pipe[str, str]") -> None:
    """Set one token after the other, and send the id of each acknowledged one."""
    with PostgresPersistenceProvider(url) as provider:
        for id in ids:
            assert provider.set_subscription_token(id, "dead", "dead", from_now(TIME_TO_LIVE))
            pipe.send(id)


def kill_while_setting_tokens(url: str, ids: list[str], chance: random.Random) -> list[str]:
    """Kill the process at a random time after its first token; return the acknowledged ids that it sent."""
    context = multiprocessing.get_context("fork")
    parent_end, child_end = context.Pipe(duplex=False)
    holder = context.Process(target=set_tokens, args=(url, ids, child_end))
    holder.start()
    child_end.close()
    assert parent_end.poll(TIMEOUT)
    time.sleep(chance.uniform(0.0, 0.01))
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    return list(_received(parent_end))


def _received(pipe: "Pipe[str, str]") -> Iterator[str]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def take_over(url: str, name: str, ids: list[str]) -> Successes:
    """Retry all tokens until each is held by one of the successors."""
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
def test_tokens_of_a_killed_process_expire_and_are_taken_over_once(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, in_processes: InProcesses, seed: int
) -> None:
    """It held the acknowledged tokens and at most one more. After their expiry each has one new holder."""
    chance = random.Random(seed)
    all_acknowledged: list[str] = []
    ids: list[str] = []
    for _ in range(4):
        own = [provider.create_event_subscription(subscription()) for _ in range(50)]
        existing = sql(OURS)
        acknowledged = kill_while_setting_tokens(database_url, own, chance)
        wait_until(lambda: set(sql(OURS)) <= set(existing))  # noqa: B023
        held = set(dict(sql(HELD))) & set(own)
        assert held - {own[min(len(acknowledged), 49)]} <= set(acknowledged) <= held
        all_acknowledged += acknowledged
        ids += own[: len(acknowledged) + 2]
    expiries: dict[str, datetime] = dict(sql(HELD))
    [(killed,)] = sql(SERVER_TIME)
    assert killed < max(expiries.values()), "all tokens have expired already"

    arguments = [(database_url, str(name), ids) for name in range(SUCCESSORS)]
    shares: list[Successes] = in_processes(take_over, arguments, method="fork")
    ready = max(began for began, _ in shares)
    taken = dict(each for _, share in shares for each in share)
    assert sum(len(share) for _, share in shares) == len(taken) == len(ids)
    for id, expiry in expiries.items():
        assert expiry <= taken[id] < max(expiry, ready) + SOON
    for id in all_acknowledged:
        successor = provider.get_subscription(id)
        with pytest.raises(SubscriptionTokenError):
            provider.clear_subscription_token(id, "dead")
        assert provider.get_subscription(id) == successor
