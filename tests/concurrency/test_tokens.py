"""A subscription has one holder: of any number who race for it, also for that of a holder who is dead."""

import multiprocessing
import random
import threading
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier

import pytest

from tests.concurrency.crowd import together
from tests.conftest import InProcesses, Sql
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, SubscriptionTokenError
from wfe_postgres.testing.conformance.support import TIMEOUT, at, from_now, subscription

THREADS = 64
PROCESSES = 8
HOUR = 3600.0
HELD_BY = "SELECT external_token, external_worker_id FROM wfc.event_subscriptions WHERE id = %s"


def new_subscriptions(provider: PersistenceProvider, count: int, keys: int = 1) -> list[str]:
    """Open ones, spread over so many event keys."""
    return [provider.create_event_subscription(subscription(event_key=str(it % keys))) for it in range(count)]


def take(provider: PersistenceProvider, id: str, name: str) -> bool:
    """Try to hold the subscription for an hour under this token."""
    return provider.set_subscription_token(id, name, f"worker of {name}", from_now(HOUR))


def check_one_winner(sql: Sql, id: str, answers: list[bool]) -> None:
    """One got True, and it is the one who stands in the row."""
    assert answers.count(True) == 1
    winner = str(answers.index(True))
    assert sql(HELD_BY, [id]) == [(winner, f"worker of {winner}")]


def test_one_of_many_threads_gets_the_token(database_url: str, sql: Sql) -> None:
    with PostgresPersistenceProvider(database_url, pool_size=32) as provider:
        ids = new_subscriptions(provider, 40)
        turn = threading.Barrier(THREADS, timeout=TIMEOUT)

        def race_for_all(number: int) -> list[bool]:
            answers = []
            for id in ids:
                turn.wait()
                answers.append(take(provider, id, str(number)))
            return answers

        rounds = zip(*together(THREADS, race_for_all), strict=True)
    for id, answers in zip(ids, rounds, strict=True):
        check_one_winner(sql, id, list(answers))


def race_in_a_process(url: str, name: str, ids: list[str], turn: Barrier) -> list[bool]:
    """One of the processes that race for each of the subscriptions."""
    answers = []
    with PostgresPersistenceProvider(url) as provider:
        for id in ids:
            turn.wait()
            answers.append(take(provider, id, name))
    return answers


def test_one_of_many_processes_gets_the_token(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, in_processes: InProcesses
) -> None:
    ids = new_subscriptions(provider, 150)
    turn = multiprocessing.get_context("fork").Barrier(PROCESSES, timeout=TIMEOUT)
    arguments = [(database_url, str(number), ids, turn) for number in range(PROCESSES)]
    rounds = zip(*in_processes(race_in_a_process, arguments, method="fork"), strict=True)
    for id, answers in zip(ids, rounds, strict=True):
        check_one_winner(sql, id, list(answers))


def test_open_subscriptions_are_drained_once(provider: PostgresPersistenceProvider) -> None:
    """Thirty-two threads take what is open until nothing is: each subscription is taken once, none is left."""
    keys = 10
    ids = new_subscriptions(provider, 1000, keys)

    def drain(number: int) -> list[str]:
        mine = []
        for key in random.Random(number).sample(range(keys), keys):
            while found := provider.get_first_open_subscription("paid", str(key), at(0)):
                if take(provider, found.id, str(number)):
                    mine.append(found.id)
        return mine

    shares = together(32, drain)
    assert sorted(id for mine in shares for id in mine) == sorted(ids)
    assert sum(1 for mine in shares if mine) > 1


def hold_and_hang(url: str, ids: list[str], pipe: "Pipe[datetime, datetime]") -> None:
    """A holder who takes all tokens for a second, says until when, and is killed."""
    with PostgresPersistenceProvider(url) as provider:
        expiry = from_now(1)
        if all(provider.set_subscription_token(id, "dead", "dead", expiry) for id in ids):
            pipe.send(expiry)
        threading.Event().wait()


def kill_a_holder(url: str, ids: list[str]) -> datetime:
    """The time until which the subscriptions are held by a process that is no more."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    holder = context.Process(target=hold_and_hang, args=(url, ids, far))
    holder.start()
    assert near.poll(TIMEOUT)
    expiry: datetime = near.recv()
    holder.kill()
    holder.join()
    return expiry


def test_a_dead_holder_is_replaced_by_one(provider: PostgresPersistenceProvider, database_url: str, sql: Sql) -> None:
    """Not before its time is up by the database's clock, then at once, by exactly one; and it is fenced off."""
    ids = new_subscriptions(provider, 20)
    expiry = kill_a_holder(database_url, ids)
    [(start,)] = sql("SELECT clock_timestamp()")
    taken: list[tuple[str, int, datetime]] = []
    clock = threading.Lock()

    def rival(number: int) -> None:
        left = list(ids)
        while left:
            for id in list(left):
                if take(provider, id, str(number)):
                    with clock:
                        taken.append((id, number, sql("SELECT clock_timestamp()")[0][0]))
                if provider.get_subscription(id).external_token != "dead":
                    left.remove(id)

    together(4, rival)
    assert sorted(id for id, _, _ in taken) == sorted(ids)
    latest = max(expiry, start) + timedelta(seconds=1)
    assert all(expiry <= moment < latest for _, _, moment in taken)
    for id, number, _ in taken:
        with pytest.raises(SubscriptionTokenError):
            provider.clear_subscription_token(id, "dead")
        assert not take(provider, id, "dead")
        assert sql(HELD_BY, [id]) == [(str(number), f"worker of {number}")]


def test_a_late_holder_who_was_not_replaced_goes_on(provider: PostgresPersistenceProvider) -> None:
    """Its time is up, and nobody has come: it may renew the token, or give the subscription back."""
    renewed, returned = new_subscriptions(provider, 2)
    for id in (renewed, returned):
        assert provider.set_subscription_token(id, "late", "late", from_now(-1))
    assert take(provider, renewed, "late")
    assert not take(provider, renewed, "rival")
    provider.clear_subscription_token(returned, "late")
    assert provider.get_subscription(returned).external_token is None


def test_a_token_for_ever_is_never_taken_over(provider: PostgresPersistenceProvider) -> None:
    [id] = new_subscriptions(provider, 1)
    assert provider.set_subscription_token(id, "first", "first", datetime.max.replace(tzinfo=UTC))
    assert together(8, lambda number: take(provider, id, str(number))) == [False] * 8
    assert provider.get_subscriptions("paid", "0", at(0)) == []


def test_one_of_many_gives_back(provider: PostgresPersistenceProvider) -> None:
    """Clear and take race: after each turn the row is free or somebody's, and a clear counts once."""
    [id] = new_subscriptions(provider, 1)
    for _ in range(10):
        assert take(provider, id, "held")

        def give_back(_: int) -> bool:
            try:
                provider.clear_subscription_token(id, "held")
            except SubscriptionTokenError:
                return False
            return True

        assert together(8, give_back).count(True) == 1
        assert provider.get_subscription(id).external_token is None
