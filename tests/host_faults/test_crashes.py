"""The server itself stops and crashes while hosts run transactional steps: each effect is there once."""

import random
import time

import pytest
from sqlalchemy import make_url

from tests.faults.conftest import cluster, database, running_cluster
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.host_faults.conftest import StartHost
from tests.host_faults.kit.effects import Effects, eventually
from tests.host_faults.kit.local import host_of
from tests.host_faults.test_transactional_steps import EXPECTED, order
from wfe_postgres import PostgresPersistenceProvider

__all__ = ["cluster", "database", "running_cluster"]

ORDERS = runs(30, 400)
STOPS = runs(2, 30)
UNFINISHED = "SELECT count(*) FROM wfc.workflows WHERE status <> 'Complete'"
COUNTS = "SELECT workflow, what, count(*) FROM public.effects GROUP BY 1, 2"


@pytest.fixture
def database_url(database: str) -> str:
    """The other fixtures work on the server that is stopped."""
    return database


def test_effects_of_orders_are_there_once_when_the_server_crashes_and_stops(
    cluster: Cluster, provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, database: str
) -> None:
    name = str(make_url(database).database)
    hosts = [start_host(order, transactional=True, provider_options={"retry_budget": 0.5}) for _ in range(2)]
    client = host_of(provider, order())
    ids = [client.start_workflow("order") for _ in range(ORDERS)]
    for id in ids:
        client.publish_event("paid", id, {"amount": 10})
    for turn in range(STOPS):
        time.sleep(random.uniform(0.2, 0.6))
        cluster.stop("fast") if turn % 2 else cluster.crash()
        time.sleep(0.5)
        cluster.start()
    eventually(lambda: cluster.sql(UNFINISHED, database=name) == [(0,)], runs(60, 600))
    found = {(id, what): count for id, what, count in cluster.sql(COUNTS, database=name)}
    assert found == {(id, what): 1 for id in ids for what in EXPECTED}
    assert all(host.is_alive for host in hosts)
