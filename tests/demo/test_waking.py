"""The workers of the demo are notified of what is started and paid."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.demo.ledger import Ledger
from wfe_postgres.demo.orders import ORDER, PAYMENT, order_data
from wfe_postgres.demo.worker import Assignment, Report
from wfe_postgres.host import WorkflowHost
from wfe_postgres.services import PostgresQueueProvider
from wfe_postgres.testing.conformance.support import eventually

LIMIT = 60
"""Seconds within which all reports have to arrive, of which the last one comes within two."""

LISTENING = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND query LIKE 'LISTEN%wfc_queue%' AND state = 'idle'
"""


@contextmanager
def reports(assignment: Assignment) -> Iterator[Iterator[Report]]:
    """What a worker process with this assignment reports."""
    command = [sys.executable, "-m", "wfe_postgres.demo.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(asdict(assignment)) + "\n")
        worker.stdin.flush()
        try:
            yield (Report(**json.loads(line)) for line in worker.stdout)
        finally:
            worker.kill()


@pytest.mark.timeout(LIMIT)
def test_order_and_payment_reach_a_worker_that_does_not_poll(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """The second order finds the worker at rest, with a session that listens."""
    Ledger(provider.engine, provider.schema).create()
    host = WorkflowHost(provider, [ORDER], queue=PostgresQueueProvider.from_engine(provider.engine))
    with reports(Assignment("worker-1", database_url, "wfc", lease=600, poll_interval=600)) as found:
        assert next(found).what == "ready"
        for order in ("first", "second"):
            eventually(lambda: sql(LISTENING) == [(1,)])
            host.start_workflow(ORDER.id, order_data(order, ["bread"], busy=0), name=order)
            assert next(it for it in found if it.what == "waits").order == order
            host.publish_event(PAYMENT, order, {})
            assert next(it for it in found if it.what == "sleeps").order == order
