"""Failover: connections to the old, read-only primary are discarded and writes use new connections."""

from contextlib import ExitStack

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.provider.databases import migrated_database, wait_until
from wfe_postgres import Event, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import race, results

POOL = 3
WRITES = 10
"""The number of writes of each thread; there are as many threads as pooled connections."""


def test_writes_use_the_new_primary_when_the_old_one_becomes_read_only(
    cluster: Cluster, database: str, server: str, template: str
) -> None:
    """No write fails or is lost, and all later writes are stored on the new primary."""
    target = {"url": database}
    engine = create_engine(make_url(database).set(drivername="postgresql+psycopg"), pool_size=POOL, max_overflow=0)

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> "psycopg.Connection[object]":
        return psycopg.connect(target["url"])

    provider = PostgresPersistenceProvider.from_engine(engine)
    with migrated_database(server, template) as promoted:
        acknowledged = write_events(provider)
        wait_until_pool_reloads(engine, "off")
        with cluster.setting(default_transaction_read_only="on"):
            wait_until_pool_reloads(engine, "on")
            target["url"] = promoted
            on_promoted = write_events(provider)
            assert events(database) == sorted(acknowledged)
        assert events(promoted) == sorted(on_promoted)
        engine.dispose()
    counters.count("failover", faults=1, acknowledged=len(acknowledged + on_promoted), lost=0, duplicated=0)


def write_events(provider: PostgresPersistenceProvider) -> list[str]:
    """Create events in concurrent threads and return their ids."""

    def write() -> list[str]:
        return [provider.create_event(Event("moved", "1")) for _ in range(WRITES)]

    return [id for ids in results(race([write] * POOL)) for id in ids]


def wait_until_pool_reloads(engine: Engine, read_only: str) -> None:
    """Wait until every connection of the pool has reloaded the setting."""
    with ExitStack() as held:
        connections = [held.enter_context(engine.connect()) for _ in range(POOL)]
        wait_until(lambda: {setting_of(it) for it in connections} == {read_only})


def setting_of(connection: Connection) -> str:
    """Return `default_transaction_read_only`, queried outside a transaction, where sessions reload settings."""
    connection.rollback()
    return str(connection.scalar(text("SHOW default_transaction_read_only")))


def events(url: str) -> list[str]:
    """Return the ids of all stored events."""
    with psycopg.connect(url) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM wfc.events ORDER BY id").fetchall()]
