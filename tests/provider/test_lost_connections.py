"""Call timeouts, and connections that are lost in the pool, during a write and in a transaction."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event

from tests.conftest import Sql
from tests.provider.databases import OURS, wait_until
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, created, has_event, race, results, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider


@contextmanager
def locked(url: str, statement: str) -> Iterator[psycopg.Connection]:
    """Another session executes the locking statement and holds the lock during the block."""
    with psycopg.connect(url) as other:
        other.execute(statement.encode())
        yield other
        other.rollback()


WAITING: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "row lock": (
        "SELECT FROM wfc.workflows FOR UPDATE",
        lambda it: it.persist_workflow(workflow(id="there", revision=None)),
    ),
    "table lock, read": ("LOCK TABLE wfc.events", lambda it: it.get_runnable_events(at(0))),
    "table lock, write": ("LOCK TABLE wfc.events", lambda it: it.create_event(published(id="never"))),
}


@pytest.mark.parametrize("name", WAITING)
def test_call_timeout_ends_a_call_that_waits_for_a_lock(database_url: str, name: str) -> None:
    """The call raises PersistenceError within the timeout and writes nothing, and the next call succeeds."""
    statement, call = WAITING[name]
    with Provider(database_url, call_timeout=0.5) as provider:
        stored = created(provider, workflow(id="there"))
        with locked(database_url, statement):
            began = time.monotonic()
            with pytest.raises(PersistenceError):
                call(provider)
            assert 0.25 < time.monotonic() - began < 1.5  # one statement gets two thirds of what is left of 0.5 s
        assert provider.get_runnable_events(at(0)) == []
        assert provider.get_workflow_instance("there").revision == stored.revision
        assert not has_event(provider, "never")


def test_call_timeout_applies_in_a_transaction(database_url: str) -> None:
    """It applies to each call in a `transaction()` block."""
    with Provider(database_url, call_timeout=0.5) as provider:
        with locked(database_url, "LOCK TABLE wfc.events"):
            began = time.monotonic()
            with pytest.raises(PersistenceError), provider.transaction() as tx:
                tx.create_event(published(id="never"))
            assert 0.4 < time.monotonic() - began < 1.5
        assert not has_event(provider, "never")


def test_call_without_timeout_waits_for_the_lock(database_url: str) -> None:
    """With `call_timeout=None` the call waits until the lock is released."""
    with (
        Provider(database_url, call_timeout=None) as provider,
        ThreadPoolExecutor(1) as thread,
        locked(database_url, "LOCK TABLE wfc.events") as other,
    ):
        waiting = thread.submit(provider.create_event, published(id="later"))
        wait_until(lambda: is_waiting(database_url))
        assert not waiting.done()
        other.rollback()
        assert waiting.result() == "later"


def is_waiting(url: str) -> bool:
    """Whether a backend of a provider waits for a lock."""
    with psycopg.connect(url) as connection:
        return bool(connection.execute(f"{OURS} AND wait_event_type = 'Lock'".encode()).fetchall())


def test_terminated_pooled_connections_are_replaced(provider: Provider, sql: Sql) -> None:
    """Reads and writes succeed after the pooled connections are terminated, and no event is stored twice."""
    for turn in range(3):
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(3)]))
        assert sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        ids = provider.get_runnable_events(at(0))
        assert len(ids) == turn
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        provider.create_event(published())
    assert len(provider.get_runnable_events(at(0))) == 3


def test_terminated_pooled_connections_are_replaced_without_retries(database_url: str, sql: Sql) -> None:
    """With `retry_budget=0` a pooled connection that is known to be closed is not used."""
    with Provider(database_url, retry_budget=0) as provider:
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(4)]))
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        provider.create_event(published())


LOST: dict[str, Callable[[Provider], object]] = {
    "create_event": lambda it: it.create_event(published(id="event-1")),
    "mark_event_processed": lambda it: it.mark_event_processed("there"),
    "transact": lambda it: it.purge_events(at(-1)),
}


@pytest.mark.parametrize("call", LOST.values(), ids=LOST)
def test_write_is_retried_when_its_connection_is_terminated(
    provider: Provider, database_url: str, call: Callable[[Provider], object], sql: Sql
) -> None:
    """The connection is terminated while the call waits for a lock; the retry on a new one takes effect once."""
    provider.create_event(published(id="there"))
    with ThreadPoolExecutor(1) as thread, locked(database_url, "LOCK TABLE wfc.events") as other:
        waiting = thread.submit(call, provider)
        wait_until(lambda: is_waiting(database_url))
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS} AND wait_event_type = 'Lock') AS ours")
        wait_until(lambda: is_waiting(database_url))
        other.rollback()
        waiting.result(timeout=10)
    assert sql("SELECT count(*) = count(DISTINCT id) FROM wfc.events") == [(True,)]


def test_save_is_retried_when_its_connection_is_terminated(provider: Provider, database_url: str, sql: Sql) -> None:
    """Saves with optimistic locking and unconditional saves are retried, and raise no ConcurrencyError."""
    instance = created(provider, workflow())
    for description, revision in (("with a revision", instance.revision), ("unconditional", None)):
        instance.description = description
        if revision is None:
            instance.revision = None
        with ThreadPoolExecutor(1) as thread, locked(database_url, "SELECT FROM wfc.workflows FOR UPDATE") as other:
            waiting = thread.submit(provider.persist_workflow, instance)
            wait_until(lambda: is_waiting(database_url))
            sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS} AND wait_event_type = 'Lock') AS ours")
            wait_until(lambda: is_waiting(database_url))
            other.rollback()
            waiting.result(timeout=10)
        assert provider.get_workflow_instance(instance.id) == instance


def test_transaction_is_not_retried_when_its_connection_is_terminated(provider: Provider, sql: Sql) -> None:
    """The call raises PersistenceError and nothing is written; the caller has to run the block again."""
    tx = provider.transaction()
    inside = tx.__enter__()
    inside.create_event(published(id="lost"))
    sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
    with pytest.raises(PersistenceError) as caught:
        inside.create_event(published(id="lost too"))
    assert not tx.__exit__(PersistenceError, caught.value, None)
    assert provider.get_runnable_events(at(0)) == []


def test_refused_connections_are_retried_within_the_retry_budget(database_url: str, sql: Sql) -> None:
    """The call succeeds on the fourth attempt, and raises after the first one with `retry_budget=0`."""
    attempts: list[float] = []

    def refuse(*_: object) -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 4:
            raise psycopg.OperationalError("connection to server failed: Connection refused")

    with Provider(database_url, retry_budget=5) as provider:
        event.listen(provider.engine, "do_connect", refuse)
        provider.create_event(published())
    assert len(attempts) == 4

    attempts.clear()
    with Provider(database_url, retry_budget=0) as provider:
        event.listen(provider.engine, "do_connect", refuse)
        with pytest.raises(PersistenceError, match="no server answers") as caught:
            provider.create_event(published())
    assert caught.value.retryable
    assert len(attempts) == 1
