"""The primary moves: connections to the old one, now read-only, are left, and writes go where new connections lead."""

import psycopg
from sqlalchemy import create_engine, event, make_url

from tests.faults.kit import tally
from tests.faults.kit.cluster import Cluster
from tests.provider.databases import migrated_database
from wfe_postgres import Event, PostgresPersistenceProvider

POOL = 3


def test_writes_follow_the_primary(cluster: Cluster, database: str, server: str, template: str) -> None:
    """No write fails, none is lost, and all after the change are on the new primary."""
    place = {"url": database}
    engine = create_engine(make_url(database).set(drivername="postgresql+psycopg"), pool_size=POOL, max_overflow=0)

    @event.listens_for(engine, "do_connect")
    def connect(*_: object) -> "psycopg.Connection[object]":
        return psycopg.connect(place["url"])

    provider = PostgresPersistenceProvider.from_engine(engine)
    with migrated_database(server, template) as promoted:
        acknowledged = [provider.create_event(Event("before", "1")) for _ in range(10)]
        with cluster.setting(default_transaction_read_only="on"):
            place["url"] = promoted
            moved = [provider.create_event(Event("after", "1")) for _ in range(10)]
            assert events(database) == sorted(acknowledged)
        assert events(promoted) == sorted(moved)
        engine.dispose()
    tally.count("the primary moved", faults=1, acknowledged=20, lost=0, doubled=0)


def events(url: str) -> list[str]:
    """The ids of all there are."""
    with psycopg.connect(url) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM wfc.events ORDER BY id").fetchall()]
