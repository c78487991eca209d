"""The primary moves: connections to the old one, now read-only, are left, and writes go where new connections lead."""

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
"""By each of as many threads as the pool has connections."""


def test_writes_follow_the_primary(cluster: Cluster, database: str, server: str, template: str) -> None:
    """No write fails, none is lost, and all after the change are on the new primary."""
    place = {"url": database}
    engine = create_engine(make_url(database).set(drivername="postgresql+psycopg"), pool_size=POOL, max_overflow=0)

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> "psycopg.Connection[object]":
        return psycopg.connect(place["url"])

    provider = PostgresPersistenceProvider.from_engine(engine)
    with migrated_database(server, template) as promoted:
        acknowledged = written(provider)
        wait_until_pool_says(engine, "off")
        with cluster.setting(default_transaction_read_only="on"):
            wait_until_pool_says(engine, "on")
            place["url"] = promoted
            moved = written(provider)
            assert events(database) == sorted(acknowledged)
        assert events(promoted) == sorted(moved)
        engine.dispose()
    counters.count("the primary moved", faults=1, acknowledged=len(acknowledged + moved), lost=0, doubled=0)


def written(provider: PostgresPersistenceProvider) -> list[str]:
    """The ids of events that threads have written at the same time."""

    def write() -> list[str]:
        return [provider.create_event(Event("moved", "1")) for _ in range(WRITES)]

    return [id for ids in results(race([write] * POOL)) for id in ids]


def wait_until_pool_says(engine: Engine, read_only: str) -> None:
    """Return when every connection of a full pool knows the setting: each takes it in when it gets to it."""
    with ExitStack() as held:
        connections = [held.enter_context(engine.connect()) for _ in range(POOL)]
        wait_until(lambda: {setting_of(it) for it in connections} == {read_only})


def setting_of(connection: Connection) -> str:
    """Whether its transactions begin read-only; seen from outside one, where a session takes in new settings."""
    connection.rollback()
    return str(connection.scalar(text("SHOW default_transaction_read_only")))


def events(url: str) -> list[str]:
    """The ids of all there are."""
    with psycopg.connect(url) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM wfc.events ORDER BY id").fetchall()]
