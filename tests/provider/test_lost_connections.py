"""Calls that would wait too long, and connections that go: in the pool, under a write, in a block."""

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
    """A lock that another session holds during the block."""
    with psycopg.connect(url) as other:
        other.execute(statement.encode())
        yield other
        other.rollback()


WAITING: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "a row": (
        "SELECT FROM wfc.workflows FOR UPDATE",
        lambda it: it.persist_workflow(workflow(id="there", revision=None)),
    ),
    "a table": ("LOCK TABLE wfc.events", lambda it: it.get_runnable_events(at(0))),
    "a table, writing": ("LOCK TABLE wfc.events", lambda it: it.create_event(published(id="never"))),
}


@pytest.mark.parametrize("name", WAITING)
def test_call_timeout(database_url: str, name: str) -> None:
    """A lock that another session holds: the call ends in time, without effect, and the next one works."""
    statement, call = WAITING[name]
    with Provider(database_url, call_timeout=0.5) as provider:
        stored = created(provider, workflow(id="there"))
        with locked(database_url, statement):
            began = time.monotonic()
            with pytest.raises(PersistenceError):
                call(provider)
            assert 0.4 < time.monotonic() - began < 1.5
        assert provider.get_runnable_events(at(0)) == []
        assert provider.get_workflow_instance("there").revision == stored.revision
        assert not has_event(provider, "never")


def test_call_timeout_in_a_transaction(database_url: str) -> None:
    """It holds for each call in a block."""
    with Provider(database_url, call_timeout=0.5) as provider:
        with locked(database_url, "LOCK TABLE wfc.events"):
            began = time.monotonic()
            with pytest.raises(PersistenceError), provider.transaction() as tx:
                tx.create_event(published(id="never"))
            assert 0.4 < time.monotonic() - began < 1.5
        assert not has_event(provider, "never")


def test_no_call_timeout(database_url: str) -> None:
    """`None` waits."""
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
    """Whether one of ours waits for a lock."""
    with psycopg.connect(url) as connection:
        return bool(connection.execute(f"{OURS} AND wait_event_type = 'Lock'".encode()).fetchall())


def test_connections_that_died_in_the_pool(provider: Provider, sql: Sql) -> None:
    """Cost no failed call, read or write, and no double."""
    for turn in range(3):
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(3)]))
        assert sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        ids = provider.get_runnable_events(at(0))
        assert len(ids) == turn
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        provider.create_event(published())
    assert len(provider.get_runnable_events(at(0))) == 3


def test_without_retries_too(database_url: str, sql: Sql) -> None:
    """A connection that is known to be dead is not even tried."""
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
def test_a_connection_that_dies_under_a_write(
    provider: Provider, database_url: str, call: Callable[[Provider], object], sql: Sql
) -> None:
    """While it waits for a lock: it is made again on another one, and takes place once."""
    provider.create_event(published(id="there"))
    with ThreadPoolExecutor(1) as thread, locked(database_url, "LOCK TABLE wfc.events") as other:
        waiting = thread.submit(call, provider)
        wait_until(lambda: is_waiting(database_url))
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS} AND wait_event_type = 'Lock') AS ours")
        wait_until(lambda: is_waiting(database_url))
        other.rollback()
        waiting.result(timeout=10)
    assert sql("SELECT count(*) = count(DISTINCT id) FROM wfc.events") == [(True,)]


def test_a_connection_that_dies_under_a_save(provider: Provider, database_url: str, sql: Sql) -> None:
    """The same for a save, guarded and unconditional: no false conflict."""
    instance = created(provider, workflow())
    for description, revision in (("guarded", instance.revision), ("unconditional", None)):
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


def test_a_transaction_whose_connection_dies(provider: Provider, sql: Sql) -> None:
    """Nothing of it is retried or written: the block is the caller's to run again."""
    tx = provider.transaction()
    inside = tx.__enter__()
    inside.create_event(published(id="lost"))
    sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
    with pytest.raises(PersistenceError) as caught:
        inside.create_event(published(id="lost too"))
    assert not tx.__exit__(PersistenceError, caught.value, None)
    assert provider.get_runnable_events(at(0)) == []


def test_a_server_that_cannot_be_reached_for_a_while(database_url: str, sql: Sql) -> None:
    """Refused connections are tried again until the budget is spent."""
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
