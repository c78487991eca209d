"""An administrator who ends connections at random, while they work."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.kit.cluster import Cluster

LONGEST_PAUSE = 0.04
"""Seconds between two ends."""


@contextmanager
def backend_killer(cluster: Cluster, database: str) -> Iterator[list[int]]:
    """In the block one of the provider's backends in this database is ended every few moments; gives which."""
    ended: list[int] = []
    over = threading.Event()

    def end_one_after_the_other() -> None:
        while not over.wait(random.uniform(0, LONGEST_PAUSE)):
            if there := cluster.backends(database):
                victim = random.choice(there)
                cluster.sql("SELECT pg_terminate_backend(%s)", victim)
                ended.append(victim)

    killer = threading.Thread(target=end_one_after_the_other)
    killer.start()
    try:
        yield ended
    finally:
        over.set()
        killer.join()
