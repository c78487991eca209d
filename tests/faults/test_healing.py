"""Recovery of a provider under load when its connections end: calls succeed and the pool keeps its size."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url
from sqlalchemy.pool import QueuePool

from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.provider.databases import wait_until
from wfe_postgres import Event, PostgresPersistenceProvider

THREADS = 8
READY = "database system is ready to accept connections"
DOWN = runs(1.0, 10.0)
FIRST_SUCCESS = 2.0
"""Upper limit of the time between the start of the server and the next successful call, in seconds."""


def restart(mode: str) -> Callable[[Cluster, str], None]:
    """Stop the server in this mode and start it again."""

    def run(cluster: Cluster, _: str) -> None:
        cluster.stop(mode)  # type: ignore[arg-type]
        cluster.start()

    return run


def stop_for_a_while(cluster: Cluster, _: str) -> None:
    """Stop the server, wait and start it again."""
    cluster.stop()
    time.sleep(DOWN)
    cluster.start()


def terminate(cluster: Cluster, name: str) -> None:
    """Terminate all connections with `pg_terminate_backend`."""
    before = set(cluster.backends(name))
    assert cluster.terminate(name) > 0
    wait_until(lambda: before.isdisjoint(cluster.backends(name)))


def kill_a_backend(cluster: Cluster, name: str) -> None:
    """Send SIGKILL to a backend: the server ends all connections and runs crash recovery."""
    mark = cluster.log_mark()
    os.kill(cluster.backends(name)[0], signal.SIGKILL)
    wait_until(lambda: READY in cluster.log_since(mark))


FAULTS = {
    "restarted": restart("fast"),
    "restarted in immediate mode": restart("immediate"),
    "stopped for a while": stop_for_a_while,
    "connections terminated": terminate,
    "backend killed": kill_a_backend,
}


@contextmanager
def load(provider: PostgresPersistenceProvider, done: list[float], failed: list[Exception]) -> Iterator[None]:
    """Run threads that write in a loop and record the time of each successful call."""
    end = threading.Event()

    def work() -> None:
        while not end.is_set():
            try:
                provider.create_event(Event("load", "1"))
                done.append(time.monotonic())
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("name", FAULTS)
def test_calls_under_load_succeed_when_connections_end(cluster: Cluster, database: str, name: str) -> None:
    """No call fails, each takes effect once, and the first call after the fault succeeds in time."""
    done: list[float] = []
    failed: list[Exception] = []
    with PostgresPersistenceProvider(database, pool_size=4) as provider:
        with load(provider, done, failed):
            wait_until(lambda: len(done) > 20)
            FAULTS[name](cluster, str(make_url(database).database))
            up = time.monotonic()
            wait_until(lambda: done[-1] > up)
            assert done[-1] - up < FIRST_SUCCESS
            wait_until(lambda: sum(it > up for it in done) > 20)
        assert failed == []
        assert provider.get_statistics().unprocessed_events == len(done)
        assert isinstance(provider.engine.pool, QueuePool)
        assert provider.engine.pool.checkedout() == 0
        assert len(cluster.backends(str(make_url(database).database))) <= 4
    counters.count(f"server {name}", faults=1, acknowledged=len(done), failed=0, duplicated=0, lost=0)
