"""An administrator who ends connections while they work."""

import random
import time

from tests.faults.kit.cluster import Cluster

LONGEST_PAUSE = 0.04
"""Seconds between one end and the next."""


def terminate_at_random(cluster: Cluster, database: str, times: int) -> None:
    """End this many of the provider's connections to the database, now one, now another, at no chosen moment."""
    while times:
        time.sleep(random.uniform(0, LONGEST_PAUSE))
        if there := cluster.backends(database):
            cluster.sql("SELECT pg_terminate_backend(%s)", random.choice(there))
            times -= 1
