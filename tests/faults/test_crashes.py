"""Eight writers, while the server crashes or their connections are ended: what each was told is what took place."""

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
"""Each is far shorter than the time for which a call is tried again: a command's every try may be ended."""
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
class Ledger:
    """What became of each write, as the caller was told."""

    acknowledged: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    def note(self, what: str, call: Callable[[], object]) -> bool:
        """Make the call; whether it was acknowledged. Only the provider's errors may come."""
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


def write(provider: PostgresPersistenceProvider, name: str, ledger: Ledger, end: threading.Event) -> None:
    """Create and change things of each kind, until the end."""
    for number in count():
        if end.is_set():
            return
        id = f"{name}-{number}"
        instance = WorkflowInstance("crashed", 1, {"saved": []}, id=id)
        if ledger.note(f"workflow {id}", partial(provider.create_new_workflow, instance)):
            instance.data["saved"].append(1)
            ledger.note(f"save {id} 1", partial(provider.persist_workflow, instance))
        ledger.note(f"event {id}", partial(provider.create_event, Event("paid", "1", id=id)))
        command = ScheduledCommand.process_workflow(id, NEVER_DUE)
        ledger.note(f"command {id}", partial(provider.schedule_command, command))
        waits = EventSubscription(id, 0, "pointer", "paid", "1", id=id)
        if ledger.note(f"subscription {id}", partial(provider.create_event_subscription, waits)):
            take = partial(provider.set_subscription_token, id, "token", "worker", from_now(600))
            ledger.note(f"token {id}", take)


@contextmanager
def writers(url: str, ledgers: list[Ledger]) -> Iterator[None]:
    """Half of them try again for as long as it takes, half never; all have come to their end after the block."""
    end = threading.Event()
    patient, impatient = PostgresPersistenceProvider(url), PostgresPersistenceProvider(url, retry_budget=0)
    with patient, impatient:
        threads = [
            threading.Thread(target=write, args=(patient if index % 2 else impatient, f"w{index}", ledger, end))
            for index, ledger in enumerate(ledgers)
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


@pytest.mark.parametrize("wait", ["on", "off"])
def test_what_is_acknowledged_survives(cluster: Cluster, database: str, wait: str) -> None:
    """Also where the database says `synchronous_commit = off`."""
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET synchronous_commit = {wait}")
    ledgers = [Ledger() for _ in range(WRITERS)]
    with writers(database, ledgers):
        for _ in range(CRASHES):
            time.sleep(runs(0.4, 1.0))
            cluster.crash()
        time.sleep(0.4)
        cluster.crash()
    cluster.crash()
    judge(f"crash of the server, synchronous_commit {wait}", CRASHES + 2, ledgers, database)


def test_connections_ended_at_any_moment(cluster: Cluster, database: str) -> None:
    """At no chosen moment; then each while its commit waits for a standby that is not there: done, and not answered."""
    name = str(make_url(database).database)
    ledgers = [Ledger() for _ in range(WRITERS)]
    with writers(database, ledgers):
        for _ in range(ROUNDS):
            terminate_at_random(cluster, name, ENDS)
            with cluster.setting(synchronous_standby_names="nosuch"):
                terminate_at_random(cluster, name, ENDS)
    judge("connection ended", ROUNDS * 2 * ENDS, ledgers, database)


def judge(test: str, faults: int, ledgers: list[Ledger], database: str) -> None:
    """Compare what the writers were told with what there is."""
    with psycopg.connect(database) as connection:
        stored = {what for (what,) in connection.execute(STORED).fetchall()}
    acknowledged, failed, unknown = (
        set[str]().union(*(getattr(ledger, name) for ledger in ledgers))
        for name in ("acknowledged", "failed", "unknown")
    )
    assert acknowledged - stored == set()
    assert failed & stored == set()
    assert stored <= acknowledged | unknown
    assert not any(ledger.unknown for ledger in ledgers[1::2]), "who tries again finds out"
    counters.count(
        test,
        faults=faults,
        acknowledged=len(acknowledged),
        failed=len(failed),
        unknown=len(unknown),
        lost=len(acknowledged - stored),
    )
