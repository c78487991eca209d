"""The server that faults are injected into, and what must hold after every fault test."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url

from tests.conftest import GRACE
from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import LONG
from wfe_postgres.schema import upgrade

TEMPLATE = "wfe_template"

LONGEST = 1800
"""Seconds that a test of the long form may take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time after which a short test is taken to hang is too little for a long one."""
    if LONG:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """One for all tests, with a migrated database to copy."""
    with Cluster() as cluster:
        cluster.sql(f"CREATE DATABASE {TEMPLATE}")
        engine = create_engine(make_url(cluster.url_of(TEMPLATE)).set(drivername="postgresql+psycopg"))
        upgrade(engine)
        engine.dispose()
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The server with fsync on; it runs when a test begins, and after the test nothing of ours is left in it."""
    running_cluster.start()
    yield running_cluster
    running_cluster.start()
    deadline = time.monotonic() + GRACE
    while left := running_cluster.sql(LEFT):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


LEFT = """
    SELECT format('process %s is %s after: %s', pid, state, query)
    FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'
    UNION ALL
    SELECT format('process %s %s a lock: %s', pid, CASE WHEN granted THEN 'holds' ELSE 'waits for' END, locktype)
    FROM pg_locks WHERE locktype = 'advisory' OR NOT granted
"""


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The URL of a migrated database on that server, of the test's own."""
    name = f"wfe_{time.monotonic_ns():x}"
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield cluster.url_of(name)
    cluster.start()
    cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever was cut, cancelled or killed: no thread of ours outlives the test."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE
    while left := [it for it in threading.enumerate() if it not in before and it.name.startswith("wfe_postgres")]:
        gc.collect()
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the long run has injected and seen."""
    if LONG:
        terminalreporter.section("faults")
        for line in counters.lines():
            terminalreporter.write_line(line)
