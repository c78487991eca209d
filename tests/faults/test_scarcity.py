"""Few connections and many threads: a call completes, or says in time that it could not."""

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
NOISE = 2.0  # seconds that a busy machine may add to a wait
REST = """
    CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
    CREATE TRIGGER rest AFTER INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION rest()
"""


@contextmanager
def most(connection: psycopg.Connection, query: str) -> Iterator[list[int]]:
    """How many rows the query had at most while the block ran, as the list's last number."""
    seen = [0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            seen.append(max(seen[-1], connection.execute(query.encode()).rowcount))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("size", [1, 2])
def test_many_threads_share_few_connections(database_url: str, sql: Sql, size: int) -> None:
    with (
        PostgresPersistenceProvider(database_url, pool_size=size) as provider,
        psycopg.connect(database_url, autocommit=True) as watcher,
        most(watcher, OURS) as backends,
    ):
        ids = run_in_threads(THREADS, lambda _: [provider.create_event(event()) for _ in range(runs(20, 500))])
    assert {id for (id,) in sql("SELECT id FROM wfc.events")} == {id for own in ids for id in own}
    assert 1 <= backends[-1] <= size


def test_who_waits_too_long_for_a_connection_is_told(database_url: str, sql: Sql) -> None:
    """Calls take 0.1 s, the two connections are wanted by all, and nobody waits for longer than 0.4 s."""
    sql(REST)
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


def test_a_server_with_two_connections_left(cluster: Cluster, database: str) -> None:
    """The pool might have ten: the calls that get no connection come again until one of the two is free."""
    ours = f"SELECT FROM pg_stat_activity WHERE datname = '{make_url(database).database}'"
    with crowded(cluster) as stranger, PostgresPersistenceProvider(database) as provider:
        with most(stranger, ours) as backends:
            ids = run_in_threads(THREADS, lambda _: [provider.create_event(event()) for _ in range(runs(5, 100))])
        assert sorted(provider.get_events("paid", "order-1", at(0))) == sorted(id for own in ids for id in own)
    assert 1 <= backends[-1] <= 2


@contextmanager
def crowded(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """Strangers have all of the server's connections but two; one of the strangers' is given."""
    strangers = list(connect_to_the_last(cluster))
    for stranger in strangers[-2:]:
        stranger.close()
    try:
        yield strangers[0]
        for stranger in strangers[1:]:
            stranger.close()
        clients = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'"
        wait_until(lambda: strangers[0].execute(clients).rowcount < CONNECTIONS / 2)
    finally:
        for stranger in strangers:
            stranger.close()


def connect_to_the_last(cluster: Cluster) -> Iterator[psycopg.Connection]:
    """Connections until the server has none to give any more."""
    while True:
        try:
            yield psycopg.connect(cluster.url, autocommit=True)
        except psycopg.OperationalError:
            return
