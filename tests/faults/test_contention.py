"""Conflicts that the server undoes for certain are tried again, and not for ever."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import psycopg
import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import make_url

from tests.concurrency.support import run_in_threads
from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from wfe_postgres import ConcurrencyError, PersistenceError, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.testing.conformance.commands import Recorder
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider

BLOCKED_BY = "SELECT true FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
THREADS = 8
CALLS = runs(400, 20_000)
VICTIM_AFTER = 0.2
"""Seconds after which one of ours, waiting for a lock, looks for a deadlock. The adversary looks much later."""


def test_serializable_by_default(cluster: Cluster, database: str) -> None:
    """Where a database makes every transaction SERIALIZABLE, no conflict of that reaches a caller."""
    name = make_url(database).database
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with Provider(database, pool_size=THREADS) as provider:
        ids = [created(provider, workflow(pointer("p"), id=f"w{number}", name=f"w{number}")).id for number in range(3)]
        turns = count()

        def work(number: int) -> None:
            chance = random.Random(number)
            while next(turns) < CALLS:
                disturb(provider, chance, ids)

        mark = cluster.log_mark()
        run_in_threads(THREADS, work)
        conflicts = cluster.log_since(mark).count("could not serialize access")
    assert conflicts, "nobody came in another's way"
    counters.count("serializable by default", faults=conflicts, acknowledged=CALLS)


def disturb(provider: Provider, chance: random.Random, ids: list[str]) -> None:
    """One of the calls that touch rows which the others touch, too. A stale save is the only failure it may have."""
    number = chance.randrange(6)
    if number == 0:
        with suppress(ConcurrencyError):
            save(provider, provider.get_workflow_instance(chance.choice(ids)), chance.random())
    elif number == 1:
        provider.next_definition_sequence("order")
    elif number == 2:
        provider.schedule_command(command("shared", chance.randrange(9)))
    elif number == 3:
        provider.process_commands(at(9), Recorder())
    elif number == 4:
        provider.mark_event_processed(provider.create_event(event()))
    else:
        provider.create_event_subscription(subscription())
        if found := provider.get_first_open_subscription("paid", "order-1", at(0)):
            provider.set_subscription_token(found.id, str(chance.random()), "worker", from_now(60))


def save(provider: Provider, instance: WorkflowInstance, value: float) -> None:
    """Change it and its pointer."""
    instance.data = {"value": value}
    instance.execution_pointers[0].outcome = value
    provider.persist_workflow(instance)


@contextmanager
def adversary(url: str, wins: float) -> Iterator[None]:
    """Holds the pointer that a save comes to last, and then wants the workflow that it came to first.

    Each time somebody waits for the pointer there is a deadlock, and the one who waits is its victim. After so many
    the adversary goes away.
    """
    over = threading.Event()
    holding = threading.Event()

    def fight() -> None:
        with psycopg.connect(url) as connection, psycopg.connect(url, autocommit=True) as beside:
            connection.execute("SET deadlock_timeout = '1h'")
            connection.execute("SELECT FROM wfc.execution_pointers FOR UPDATE")
            holding.set()
            won = 0
            while won < wins and not over.is_set():
                if beside.execute(BLOCKED_BY, [connection.info.backend_pid]).fetchone():
                    with suppress(DeadlockDetected), connection.transaction(force_rollback=True):
                        connection.execute("SELECT FROM wfc.workflows FOR UPDATE")
                        won += 1
                over.wait(0.002)
            connection.rollback()

    thread = threading.Thread(target=fight)
    thread.start()
    assert holding.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def contended(cluster: Cluster, database: str) -> Iterator[Provider]:
    """A provider that loses every deadlock."""
    name = make_url(database).database
    cluster.sql(f"ALTER DATABASE {name} SET deadlock_timeout = '{VICTIM_AFTER}s'")
    with Provider(database, retry_budget=1.0) as provider:
        yield provider


def test_a_deadlock_is_tried_again(contended: Provider, cluster: Cluster, database: str) -> None:
    """The victim of two deadlocks has saved in the end, and was not told."""
    instance = created(contended, workflow(pointer("p")))
    mark = cluster.log_mark()
    with adversary(database, wins=2):
        save(contended, instance, 0.5)
    assert contended.get_workflow_instance(instance.id) == instance
    assert cluster.log_since(mark).count("deadlock detected") == 2


def test_an_adversary_that_always_wins(contended: Provider, cluster: Cluster, database: str) -> None:
    """After the budget it is said; nothing was written, and the same save passes once the adversary is gone."""
    instance = created(contended, workflow(pointer("p")))
    mark = cluster.log_mark()
    with adversary(database, wins=float("inf")):
        began = time.monotonic()
        with pytest.raises(PersistenceError) as caught:
            save(contended, instance, 0.5)
        assert 0.3 < time.monotonic() - began < 5
    assert caught.value.sqlstate == "40P01"
    assert caught.value.retryable
    assert 2 <= cluster.log_since(mark).count("deadlock detected") <= 1 / VICTIM_AFTER + 1
    assert contended.get_workflow_instance(instance.id) != instance
    save(contended, instance, 0.5)
    assert contended.get_workflow_instance(instance.id) == instance
