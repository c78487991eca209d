"""Eight writers while the server crashes or connections are terminated: each call reports its outcome correctly."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import psycopg
import pytest
from sqlalchemy import make_url

from tests.faults.kit import counters
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.faults.kit.killer import terminate_at_random
from wfe_postgres import (
    Event,
    EventSubscription,
    OutcomeUnknownError,
    PersistenceError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
)
from wfe_postgres.testing.conformance.support import from_now

CRASHES = runs(2, 20)
ENDS = 40
ROUNDS = runs(1, 12)
"""A round is far shorter than the retry budget, since every attempt of a call may be terminated."""
WRITERS = 8
NEVER_DUE = 2**60

STORED = """
SELECT 'workflow ' || id FROM wfc.workflows
UNION ALL SELECT 'save ' || id || ' ' || number FROM wfc.workflows, jsonb_array_elements_text(data->'saved') AS number
UNION ALL SELECT 'event ' || id FROM wfc.events
UNION ALL SELECT 'command ' || data FROM wfc.scheduled_commands
UNION ALL SELECT 'subscription ' || id FROM wfc.event_subscriptions
UNION ALL SELECT 'token ' || id FROM wfc.event_subscriptions WHERE external_token IS NOT NULL
"""


@dataclass
class Outcomes:
    """The writes, by the outcome that was reported to the caller."""

    acknowledged: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    def record(self, what: str, call: Callable[[], object]) -> bool:
        """Make the call and return whether it succeeded. Only errors of the provider are expected."""
        try:
            call()
        except OutcomeUnknownError:
            self.unknown.add(what)
        except PersistenceError as error:
            if not error.retryable:
                raise
            self.failed.add(what)
        else:
            self.acknowledged.add(what)
            return True
        return False


def write(provider: PostgresPersistenceProvider, name: str, outcomes: Outcomes, end: threading.Event) -> None:
    """Create and change objects of each kind until `end` is set."""
    for number in count():
        if end.is_set():
            return
        id = f"{name}-{number}"
        instance = WorkflowInstance("crashed", 1, {"saved": []}, id=id)
        if outcomes.record(f"workflow {id}", partial(provider.create_new_workflow, instance)):
            instance.data["saved"].append(1)
            outcomes.record(f"save {id} 1", partial(provider.persist_workflow, instance))
        outcomes.record(f"event {id}", partial(provider.create_event, Event("paid", "1", id=id)))
        command = ScheduledCommand.process_workflow(id, NEVER_DUE)
        outcomes.record(f"command {id}", partial(provider.schedule_command, command))
        waiting = EventSubscription(id, 0, "pointer", "paid", "1", id=id)
        if outcomes.record(f"subscription {id}", partial(provider.create_event_subscription, waiting)):
            set_token = partial(provider.set_subscription_token, id, "token", "worker", from_now(600))
            outcomes.record(f"token {id}", set_token)


@contextmanager
def writers(url: str, all_outcomes: list[Outcomes]) -> Iterator[None]:
    """Run one writer for each item. Every second one retries, the others do not; all end with the block."""
    end = threading.Event()
    with_retries, without_retries = PostgresPersistenceProvider(url), PostgresPersistenceProvider(url, retry_budget=0)
    with with_retries, without_retries:
        threads = [
            threading.Thread(
                target=write,
                args=(with_retries if index % 2 else without_retries, f"w{index}", outcomes, end),
            )
            for index, outcomes in enumerate(all_outcomes)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()


@pytest.mark.parametrize("synchronous_commit", ["on", "off"])
def test_acknowledged_writes_survive_a_server_crash(cluster: Cluster, database: str, synchronous_commit: str) -> None:
    """Also when `synchronous_commit` is off for the database."""
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET synchronous_commit = {synchronous_commit}")
    all_outcomes = [Outcomes() for _ in range(WRITERS)]
    with writers(database, all_outcomes):
        for _ in range(CRASHES):
            time.sleep(runs(0.4, 1.0))
            cluster.crash()
        time.sleep(0.4)
        cluster.crash()
    cluster.crash()
    check_outcomes(f"crash of the server, synchronous_commit {synchronous_commit}", CRASHES + 2, all_outcomes, database)


def test_outcomes_are_correct_when_connections_are_terminated(cluster: Cluster, database: str) -> None:
    """At random times; then also while the commit waits for a missing standby: committed, but not acknowledged."""
    name = str(make_url(database).database)
    all_outcomes = [Outcomes() for _ in range(WRITERS)]
    with writers(database, all_outcomes):
        for _ in range(ROUNDS):
            terminate_at_random(cluster, name, ENDS)
            with cluster.setting(synchronous_standby_names="nosuch"):
                terminate_at_random(cluster, name, ENDS)
    check_outcomes("connection ended", ROUNDS * 2 * ENDS, all_outcomes, database)


def check_outcomes(test: str, faults: int, all_outcomes: list[Outcomes], database: str) -> None:
    """Compare the reported outcomes with the stored rows."""
    with psycopg.connect(database) as connection:
        stored = {what for (what,) in connection.execute(STORED).fetchall()}
    acknowledged, failed, unknown = (
        set[str]().union(*(getattr(outcomes, name) for outcomes in all_outcomes))
        for name in ("acknowledged", "failed", "unknown")
    )
    assert acknowledged - stored == set()
    assert failed & stored == set()
    assert stored <= acknowledged | unknown
    assert not any(outcomes.unknown for outcomes in all_outcomes[1::2]), "a call with retries has an unknown outcome"
    counters.count(
        test,
        faults=faults,
        acknowledged=len(acknowledged),
        failed=len(failed),
        unknown=len(unknown),
        lost=len(acknowledged - stored),
    )
