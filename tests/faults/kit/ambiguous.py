"""A commit whose answer never comes, without a proxy: the backend waits for a standby that is not there, and is ended.

The row is written by then; the client sees a lost connection, and cannot tell it from one before the commit.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.pq import PGconn

from tests.faults.kit.cluster import Cluster
from tests.provider.databases import wait_until

# Only the provider's: the trial commit below waits as well.
WAITING = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE wait_event = 'SyncRep' AND application_name = 'wfe_postgres'
"""
IS_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s"


@contextmanager
def ambiguous_commits(cluster: Cluster) -> Iterator[list[int]]:
    """In the block the first commit that waits is ended, and from then on none waits; gives how many were ended."""
    ended: list[int] = []
    over = threading.Event()

    def end_the_first() -> None:
        while not over.is_set():
            [(number,)] = cluster.sql(WAITING)
            if number:
                cluster.sql("ALTER SYSTEM RESET synchronous_standby_names")
                cluster.sql("SELECT pg_reload_conf()")
                ended.append(number)
                return
            time.sleep(0.002)

    with cluster.setting(synchronous_standby_names="nosuch"):
        until_commits_wait(cluster)
        watching = threading.Thread(target=end_the_first)
        watching.start()
        try:
            yield ended
        finally:
            over.set()
            watching.join()


def until_commits_wait(cluster: Cluster) -> None:
    """Return when the setting is in force: that is up to the checkpointer, which may hear of it after the sessions."""
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
