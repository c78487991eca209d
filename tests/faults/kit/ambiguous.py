"""Commits that are not acknowledged: the backend is terminated while it waits for a missing standby.

The row is committed by then. The client sees a lost connection, as if it was lost before the commit.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.pq import PGconn

from tests.faults.kit.cluster import Cluster
from tests.provider.databases import wait_until

# Only backends of the provider, since the trial commit below waits as well.
WAITING = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE wait_event = 'SyncRep' AND application_name = 'wfe_postgres'
"""
IS_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s"


@contextmanager
def ambiguous_commits(cluster: Cluster) -> Iterator[list[int]]:
    """Terminate the first commit that waits in the block, then disable waiting; yields the number of terminations."""
    ended: list[int] = []
    stop = threading.Event()

    def terminate_first() -> None:
        while not stop.is_set():
            [(number,)] = cluster.sql(WAITING)
            if number:
                cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
                cluster.sql("SELECT pg_reload_conf()")
                ended.append(number)
                return
            time.sleep(0.002)

    with cluster.setting(synchronous_standby_names="nosuch"):
        until_commits_wait(cluster)
        watching = threading.Thread(target=terminate_first)
        watching.start()
        try:
            yield ended
        finally:
            stop.set()
            watching.join()


def until_commits_wait(cluster: Cluster) -> None:
    """Wait until the setting takes effect; the checkpointer may reload it later than the sessions."""
    trial = PGconn.connect(cluster.url_of("postgres").encode())

    def waits() -> bool:
        trial.consume_input()
        if not trial.is_busy():
            while trial.get_result():
                pass
            trial.send_query(b"SELECT pg_logical_emit_message(true, '', '')")
        return bool(cluster.sql(IS_WAITING, trial.backend_pid))

    try:
        wait_until(waits)
    finally:
        trial.finish()
