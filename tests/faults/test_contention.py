"""Serialization failures and deadlocks are retried, within the retry budget."""

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
"""`deadlock_timeout` of the provider's sessions, in seconds. The blocking session has a much longer one."""


def test_serialization_failures_are_retried_under_default_isolation_serializable(
    cluster: Cluster, database: str
) -> None:
    """The database sets `default_transaction_isolation`; no serialization failure reaches a caller."""
    name = make_url(database).database
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with Provider(database, pool_size=THREADS) as provider:
        ids = [created(provider, workflow(pointer("p"), id=f"w{number}", name=f"w{number}")).id for number in range(3)]
        turns = count()

        def work(number: int) -> None:
            chance = random.Random(number)
            while next(turns) < CALLS:
                make_random_call(provider, chance, ids)

        mark = cluster.log_mark()
        run_in_threads(THREADS, work)
        conflicts = cluster.log_since(mark).count("could not serialize access")
    assert conflicts, "no serialization failure occurred"
    counters.count("serializable by default", faults=conflicts, acknowledged=CALLS)


def make_random_call(provider: Provider, chance: random.Random, ids: list[str]) -> None:
    """Make one of several calls on shared rows. Only a save may fail, with `ConcurrencyError`."""
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
    """Change and save the workflow and its pointer."""
    instance.data = {"value": value}
    instance.execution_pointers[0].outcome = value
    provider.persist_workflow(instance)


@contextmanager
def blocking_session(url: str, wins: float) -> Iterator[None]:
    """Lock the pointers, which a save locks last, and then the workflows, which it locks first.

    Each session that waits for a pointer runs into a deadlock and is the victim. The blocking session ends after
    `wins` deadlocks.
    """
    stop = threading.Event()
    holding = threading.Event()

    def cause_deadlocks() -> None:
        with psycopg.connect(url) as connection, psycopg.connect(url, autocommit=True) as monitor:
            connection.execute("SET deadlock_timeout = '1h'")
            connection.execute("SELECT FROM wfc.execution_pointers FOR UPDATE")
            holding.set()
            won = 0
            while won < wins and not stop.is_set():
                if monitor.execute(BLOCKED_BY, [connection.info.backend_pid]).fetchone():
                    with suppress(DeadlockDetected), connection.transaction(force_rollback=True):
                        connection.execute("SELECT FROM wfc.workflows FOR UPDATE")
                        won += 1
                stop.wait(0.002)
            connection.rollback()

    thread = threading.Thread(target=cause_deadlocks)
    thread.start()
    assert holding.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def contended(cluster: Cluster, database: str) -> Iterator[Provider]:
    """A provider whose sessions are the victim of every deadlock."""
    name = make_url(database).database
    cluster.sql(f"ALTER DATABASE {name} SET deadlock_timeout = '{VICTIM_AFTER}s'")
    with Provider(database, retry_budget=1.0) as provider:
        yield provider


def test_deadlock_is_retried_until_the_save_succeeds(contended: Provider, cluster: Cluster, database: str) -> None:
    """A save that is the victim of two deadlocks returns normally."""
    instance = created(contended, workflow(pointer("p")))
    mark = cluster.log_mark()
    with blocking_session(database, wins=2):
        save(contended, instance, 0.5)
    assert contended.get_workflow_instance(instance.id) == instance
    assert cluster.log_since(mark).count("deadlock detected") == 2


def test_repeated_deadlock_raises_when_the_retry_budget_is_used_up(
    contended: Provider, cluster: Cluster, database: str
) -> None:
    """Nothing is written, and the same save succeeds once the blocking session has ended."""
    instance = created(contended, workflow(pointer("p")))
    mark = cluster.log_mark()
    with blocking_session(database, wins=float("inf")):
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
