"""A writer that is killed at random times: each save is stored completely or not at all."""

import random
import time

import psycopg
from sqlalchemy import make_url

from tests.faults.kit import counters
from tests.faults.kit.audit import audit, become, first, new_subscriptions
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.faults.kit.writers import Send, writer
from tests.provider.databases import wait_until
from wfe_postgres import PostgresPersistenceProvider

ID = "audited"
KILLS = runs(60, 2000)


def save_generations(url: str, send: Send) -> None:
    """Save consecutive generations of the workflow."""
    with PostgresPersistenceProvider(url) as provider:
        instance = provider.get_workflow_instance(ID)
        while True:
            generation = instance.data["generation"] + 1
            become(instance, generation)
            provider.persist_workflow_with_subscriptions(instance, new_subscriptions(ID, generation))
            send(generation)


def test_save_is_atomic_when_the_writer_is_killed(cluster: Cluster, database: str) -> None:
    name = str(make_url(database).database)
    generation = acknowledged = unacknowledged = 0
    with PostgresPersistenceProvider(database) as provider:
        provider.create_new_workflow(first(ID))
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(KILLS):
            with writer(save_generations, database) as process:
                process.receive()
                time.sleep(random.uniform(0, 0.06))
            wait_until(lambda: not cluster.backends(name))
            [found] = audit(connection).values()
            acknowledged_generation = max(process.received, default=generation)
            assert found in (acknowledged_generation, acknowledged_generation + 1)
            unacknowledged += found == acknowledged_generation + 1
            acknowledged += len(process.received)
            generation = found
    assert acknowledged >= KILLS
    assert unacknowledged >= runs(0, 5), "no kill happened between a commit and its acknowledgement"
    counters.count("kill -9 of a writer", faults=KILLS, acknowledged=acknowledged, lost=0)
    with PostgresPersistenceProvider(database) as provider:
        assert provider.get_workflow_instance(ID).data == {"generation": generation}
