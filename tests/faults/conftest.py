"""The server of the fault tests, and the checks that run after every fault test."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url

from tests.conftest import GRACE
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import LONG
from wfe_postgres.schema import upgrade

TEMPLATE = "wfe_template"

LONGEST = 1800
"""The timeout of a test in the long form, in seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout of all tests in the long form."""
    if LONG:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """A server for the session, with a migrated template database."""
    with Cluster() as cluster:
        cluster.sql(f"CREATE DATABASE {TEMPLATE}")
        engine = create_engine(make_url(cluster.url_of(TEMPLATE)).set(drivername="postgresql+psycopg"))
        upgrade(engine)
        engine.dispose()
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The running server, with fsync on; checks that a test leaves no transaction, advisory lock or lock wait."""
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
    """The URL of a migrated database on that server, created for the test."""
    name = f"wfe_{time.monotonic_ns():x}"
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield cluster.url_of(name)
    cluster.start()
    cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")
