"""Termination of connections at random times."""

import random
import time

from tests.faults.kit.cluster import Cluster

LONGEST_PAUSE = 0.04
"""The longest time between two terminations, in seconds."""


def terminate_at_random(cluster: Cluster, database: str, times: int) -> None:
    """Terminate `times` random connections of the provider to the database, at random times."""
    while times:
        time.sleep(random.uniform(0, LONGEST_PAUSE))
        if backends := cluster.backends(database):
            cluster.sql("SELECT pg_terminate_backend(%s)", random.choice(backends))
            times -= 1
