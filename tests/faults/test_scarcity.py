"""Many threads with few connections: each call succeeds, or raises an error within the pool timeout."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from tests.concurrency.support import run_in_threads
from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.cluster import CONNECTIONS, Cluster
from tests.faults.kit.form import runs
from tests.provider.databases import OURS, wait_until
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, event

THREADS = 32
NOISE = 2.0  # tolerance for waits on a busy machine, in seconds
SLOW_INSERTS = """
    CREATE FUNCTION slow_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
    CREATE TRIGGER slow_insert AFTER INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION slow_insert()
"""


@contextmanager
def maximum_rows(connection: psycopg.Connection, query: str) -> Iterator[list[int]]:
    """Poll the query during the block; the last item of the list is the maximum number of rows."""
    seen = [0]
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(0.005):
            seen.append(max(seen[-1], connection.execute(query.encode()).rowcount))

    watcher = threading.Thread(target=poll)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


@pytest.mark.parametrize("size", [1, 2])
def test_many_threads_use_no_more_connections_than_the_pool_has(database_url: str, sql: Sql, size: int) -> None:
    with (
        PostgresPersistenceProvider(database_url, pool_size=size) as provider,
        psycopg.connect(database_url, autocommit=True) as watcher,
        maximum_rows(watcher, OURS) as backends,
    ):
        ids = run_in_threads(THREADS, lambda _: [provider.create_event(event()) for _ in range(runs(20, 500))])
    assert {id for (id,) in sql("SELECT id FROM wfc.events")} == {id for own in ids for id in own}
    assert 1 <= backends[-1] <= size


def test_call_raises_retryable_error_when_it_gets_no_connection_within_the_pool_timeout(
    database_url: str, sql: Sql
) -> None:
    """32 threads share two connections, calls take 0.1 s, and the pool timeout is 0.4 s."""
    sql(SLOW_INSERTS)
    refused: dict[str, bool] = {}
    waits: list[float] = []

    def work(number: int) -> list[str]:
        done = []
        for turn in range(runs(3, 30)):
            began = time.monotonic()
            try:
                done.append(provider.create_event(event(id=f"{number}-{turn}")))
            except PersistenceError as failure:
                refused[f"{number}-{turn}"] = failure.retryable
            waits.append(time.monotonic() - began)
        return done

    with PostgresPersistenceProvider(database_url, pool_size=2, pool_timeout=0.4) as provider:
        ids = {id for own in run_in_threads(THREADS, work) for id in own}
        assert provider.create_event(event(id="afterwards"))
    stored = {id for (id,) in sql("SELECT id FROM wfc.events")}
    assert stored == ids | {"afterwards"}
    assert set(refused.values()) == {True}
    assert not stored & refused.keys()
    assert max(waits) < 0.4 + 0.1 + NOISE
    counters.count("scarcity", acknowledged=len(ids), failed=len(refused))


def test_calls_succeed_when_the_server_has_two_free_connections(cluster: Cluster, database: str) -> None:
    """The pool may open ten connections; calls that get none are retried until one of the two is free."""
    ours = f"SELECT FROM pg_stat_activity WHERE datname = '{make_url(database).database}'"
    with nearly_full(cluster) as other, PostgresPersistenceProvider(database) as provider:
        with maximum_rows(other, ours) as backends:
            ids = run_in_threads(THREADS, lambda _: [provider.create_event(event()) for _ in range(runs(5, 100))])
        assert sorted(provider.get_events("paid", "order-1", at(0))) == sorted(id for own in ids for id in own)
    assert 1 <= backends[-1] <= 2


@contextmanager
def nearly_full(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """Use all connections of the server except two; yields one of the used connections."""
    others = list(connect_until_full(cluster))
    for other in others[-2:]:
        other.close()
    try:
        yield others[0]
        for other in others[1:]:
            other.close()
        clients = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'"
        wait_until(lambda: others[0].execute(clients).rowcount < CONNECTIONS / 2)
    finally:
        for other in others:
            other.close()


def connect_until_full(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """Open connections until the server rejects one."""
    while True:
        try:
            yield psycopg.connect(cluster.url, autocommit=True)
        except psycopg.OperationalError:
            return
