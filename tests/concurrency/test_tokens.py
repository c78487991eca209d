"""A subscription token has at most one holder, also when many sessions compete for it or a holder has died."""

import multiprocessing
import random
import threading
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import InProcesses, Sql
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, SubscriptionTokenError
from wfe_postgres.testing.conformance.support import TIMEOUT, at, from_now, subscription

THREADS = 64
PROCESSES = 8
HOUR = 3600.0
HELD_BY = "SELECT external_token, external_worker_id FROM wfc.event_subscriptions WHERE id = %s"


def new_subscriptions(provider: PersistenceProvider, count: int, keys: int = 1) -> list[str]:
    """Open subscriptions, spread over `keys` event keys."""
    return [provider.create_event_subscription(subscription(event_key=str(it % keys))) for it in range(count)]


def take(provider: PersistenceProvider, id: str, name: str) -> bool:
    """Try to set the token for an hour."""
    return provider.set_subscription_token(id, name, f"worker of {name}", from_now(HOUR))


def check_one_winner(sql: Sql, id: str, answers: list[bool]) -> None:
    """Exactly one caller got True, and its token is stored."""
    assert answers.count(True) == 1
    winner = str(answers.index(True))
    assert sql(HELD_BY, [id]) == [(winner, f"worker of {winner}")]


def test_token_requested_by_many_threads_is_set_once(database_url: str, sql: Sql) -> None:
    with PostgresPersistenceProvider(database_url, pool_size=32) as provider:
        ids = new_subscriptions(provider, 40)
        turn = threading.Barrier(THREADS, timeout=TIMEOUT)

        def race_for_all(number: int) -> list[bool]:
            answers = []
            for id in ids:
                turn.wait()
                answers.append(take(provider, id, str(number)))
            return answers

        rounds = zip(*run_in_threads(THREADS, race_for_all), strict=True)
    for id, answers in zip(ids, rounds, strict=True):
        check_one_winner(sql, id, list(answers))


def take_in_process(url: str, name: str, ids: list[str], turn: Barrier) -> list[bool]:
    """Runs in each process: request the token of every subscription."""
    answers = []
    with PostgresPersistenceProvider(url) as provider:
        for id in ids:
            turn.wait()
            answers.append(take(provider, id, name))
    return answers


def test_token_requested_by_many_processes_is_set_once(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, in_processes: InProcesses
) -> None:
    ids = new_subscriptions(provider, 150)
    turn = multiprocessing.get_context("fork").Barrier(PROCESSES, timeout=TIMEOUT)
    arguments = [(database_url, str(number), ids, turn) for number in range(PROCESSES)]
    rounds = zip(*in_processes(take_in_process, arguments, method="fork"), strict=True)
    for id, answers in zip(ids, rounds, strict=True):
        check_one_winner(sql, id, list(answers))


def test_open_subscriptions_taken_by_many_threads_are_taken_once(provider: PostgresPersistenceProvider) -> None:
    """Thirty-two threads take open subscriptions until none is left: each subscription is taken exactly once."""
    keys = 10
    ids = new_subscriptions(provider, 1000, keys)

    def drain(number: int) -> list[str]:
        mine = []
        for key in random.Random(number).sample(range(keys), keys):
            while found := provider.get_first_open_subscription("paid", str(key), at(0)):
                if take(provider, found.id, str(number)):
                    mine.append(found.id)
        return mine

    shares = run_in_threads(32, drain)
    assert sorted(id for mine in shares for id in mine) == sorted(ids)
    assert sum(1 for mine in shares if mine) > 1


def hold_and_hang(url: str, ids: list[str], pipe: "Pipe[datetime, datetime]") -> None:
    """A holder that sets all tokens for one second, reports the expiry, and hangs until it is killed."""
    with PostgresPersistenceProvider(url) as provider:
        expiry = from_now(1)
        if all(provider.set_subscription_token(id, "dead", "dead", expiry) for id in ids):
            pipe.send(expiry)
        threading.Event().wait()


def kill_a_holder(url: str, ids: list[str]) -> datetime:
    """Kill a process that holds all tokens; return their expiry."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    holder = context.Process(target=hold_and_hang, args=(url, ids, far))
    holder.start()
    assert near.poll(TIMEOUT)
    expiry: datetime = near.recv()
    holder.kill()
    holder.join()
    return expiry


def test_expired_token_of_dead_holder_is_taken_over_once(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """Not before the expiry by the database clock, then immediately, by one rival; the old token is rejected."""
    ids = new_subscriptions(provider, 20)
    expiry = kill_a_holder(database_url, ids)
    [(start,)] = sql("SELECT clock_timestamp()")
    taken: list[tuple[str, int, datetime]] = []
    taken_lock = threading.Lock()

    def rival(number: int) -> None:
        remaining = list(ids)
        while remaining:
            for id in list(remaining):
                if take(provider, id, str(number)):
                    with taken_lock:
                        taken.append((id, number, sql("SELECT clock_timestamp()")[0][0]))
                if provider.get_subscription(id).external_token != "dead":
                    remaining.remove(id)

    run_in_threads(4, rival)
    assert sorted(id for id, _, _ in taken) == sorted(ids)
    latest = max(expiry, start) + timedelta(seconds=1)
    assert all(expiry <= timestamp < latest for _, _, timestamp in taken)
    for id, number, _ in taken:
        with pytest.raises(SubscriptionTokenError):
            provider.clear_subscription_token(id, "dead")
        assert not take(provider, id, "dead")
        assert sql(HELD_BY, [id]) == [(str(number), f"worker of {number}")]


def test_expired_token_can_be_renewed_or_cleared_by_its_holder(provider: PostgresPersistenceProvider) -> None:
    """As long as no other holder took over, the old one may renew or clear its expired token."""
    renewed, returned = new_subscriptions(provider, 2)
    for id in (renewed, returned):
        assert provider.set_subscription_token(id, "late", "late", from_now(-1))
    assert take(provider, renewed, "late")
    assert not take(provider, renewed, "rival")
    provider.clear_subscription_token(returned, "late")
    assert provider.get_subscription(returned).external_token is None


def test_token_with_maximum_expiry_is_never_taken_over(provider: PostgresPersistenceProvider) -> None:
    [id] = new_subscriptions(provider, 1)
    assert provider.set_subscription_token(id, "first", "first", datetime.max.replace(tzinfo=UTC))
    assert run_in_threads(8, lambda number: take(provider, id, str(number))) == [False] * 8
    assert provider.get_subscriptions("paid", "0", at(0)) == []


def test_concurrent_clears_of_one_token_succeed_once(provider: PostgresPersistenceProvider) -> None:
    """Of eight concurrent clears exactly one succeeds, and the subscription is open afterwards."""
    [id] = new_subscriptions(provider, 1)
    for _ in range(10):
        assert take(provider, id, "held")

        def clear(_: int) -> bool:
            try:
                provider.clear_subscription_token(id, "held")
            except SubscriptionTokenError:
                return False
            return True

        assert run_in_threads(8, clear).count(True) == 1
        assert provider.get_subscription(id).external_token is None
