"""Resource use after thousands of calls, a third of which fail in different ways."""

import gc
import random
import resource
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.pool import QueuePool

from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from wfe_postgres import Event, PersistenceError, PostgresPersistenceProvider, ScheduledCommand, WfeError
from wfe_postgres.testing.conformance.support import at, from_now, subscription, workflow

CALLS = runs(1500, 20_000)
POOL = 4
MOST_GROWTH = 20 * 1024  # kB
LONGEST_TRANSACTION = "1 second"
IDLING = f"""
SELECT count(*) FROM pg_stat_activity
 WHERE application_name = 'wfe_postgres' AND xact_start < clock_timestamp() - interval '{LONGEST_TRANSACTION}'
"""


def handler(_: ScheduledCommand) -> None:
    """A handler that raises at random."""
    if random.random() < 0.3:
        raise LookupError


def mixed(provider: PostgresPersistenceProvider) -> list[Callable[[], object]]:
    """Calls that succeed, and calls that are rejected by the provider or the server, or by another token."""
    stored = workflow(id="stored")
    provider.create_new_workflow(stored)
    subscription_id = provider.create_event_subscription(subscription())
    numbers = count()

    def save() -> None:
        stored.data["number"] = next(numbers)
        provider.persist_workflow(provider.get_workflow_instance("stored"))

    def schedule() -> None:
        provider.schedule_command(ScheduledCommand.process_workflow(str(next(numbers) % 10), 0))

    def raise_in_transaction() -> None:
        with provider.transaction() as tx:
            tx.create_event(Event("never", "1"))
            raise LookupError

    return [
        lambda: provider.create_event(Event("paid", "1")),
        save,
        schedule,
        lambda: provider.process_commands(at(0), handler),
        lambda: provider.get_workflow_instance("stored"),
        lambda: provider.find_workflows(limit=3),
        lambda: provider.set_subscription_token(subscription_id, str(random.random()), "worker", from_now(0.01)),
        lambda: provider.get_workflow_instance("none"),
        lambda: provider.create_new_workflow(workflow(id="stored")),
        lambda: provider.persist_workflow(workflow(id="none", revision=7)),
        lambda: provider.create_event(Event("paid", "1", event_data=float("nan"))),
        lambda: provider.clear_subscription_token(subscription_id, "none"),
        raise_in_transaction,
    ]


def open_files() -> int:
    """Return the number of open file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_resource_leaks_after_many_calls_and_failures(cluster: Cluster, database: str) -> None:
    name = str(make_url(database).database)
    failed = 0
    with PostgresPersistenceProvider(database, pool_size=POOL) as provider:
        calls = mixed(provider)
        for call in calls * 20:
            with suppress(WfeError, LookupError, ExceptionGroup):
                call()
        gc.collect()
        threads, files, memory = threading.active_count(), open_files(), peak_memory()
        for number in range(CALLS):
            if number % 100 == 50:
                cluster.terminate(name)
            try:
                random.choice(calls)()
            except (WfeError, LookupError, ExceptionGroup):
                failed += 1
            if number % 100 == 0:
                assert cluster.sql(IDLING) == [(0,)]
        gc.collect()
        assert failed > CALLS / 5
        assert isinstance(provider.engine.pool, QueuePool)
        assert provider.engine.pool.checkedout() == 0
        assert len(cluster.backends(name)) <= POOL
        assert threading.active_count() <= threads
        assert open_files() <= files + 1
        assert peak_memory() - memory < MOST_GROWTH
    provider.close()
    with pytest.raises(PersistenceError):
        provider.get_statistics()
    counters.count("mixed calls", faults=CALLS // 100, acknowledged=CALLS - failed, failed=failed)


def peak_memory() -> int:
    """Return the peak resident set size of this process, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
