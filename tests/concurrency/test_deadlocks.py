"""No deadlock of our own making: whatever runs beside whatever, nobody is the victim of one.

The providers here retry nothing, so that a deadlock would show as an error; the server's own count of them is
looked at as well.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import pytest

from tests.concurrency.crowd import become, together
from tests.conftest import Sql
from wfe_postgres import (
    ConcurrencyError,
    EventNotFoundError,
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WorkflowExistsError,
    WorkflowInstance,
    WorkflowNotFoundError,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.commands import Recorder
from wfe_postgres.testing.conformance.support import at, command, event, from_now, subscription, workflow

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
OTHERS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
OF_NOBODY = """
    SELECT 'pointer' FROM wfc.execution_pointers p WHERE NOT EXISTS (SELECT FROM wfc.workflows WHERE id = p.workflow_id)
    UNION ALL SELECT 'subscription' FROM wfc.event_subscriptions s
    WHERE NOT EXISTS (SELECT FROM wfc.workflows WHERE id = s.workflow_id)
"""

Part = Callable[[random.Random], object]
Work = Callable[[PostgresPersistenceProvider, list[str], random.Random], None]


@pytest.fixture
def fragile(database_url: str, sql: Sql) -> Iterator[PostgresPersistenceProvider]:
    """A provider that retries nothing; when it is closed, the server must have seen no deadlock."""
    with PostgresPersistenceProvider(database_url, retry_budget=0, pool_size=16) as provider:
        yield provider
    while sql(OTHERS):
        pass  # a backend reports what it has counted when it ends, at the latest
    assert sql(DEADLOCKS) == [(0,)]


def run(parts: Sequence[Part], turns: int) -> None:
    """Each part so many times, all at once, each with a randomness of its own."""

    def repeat(number: int) -> None:
        chance = random.Random(number)
        for _ in range(turns):
            parts[number](chance)

    together(len(parts), repeat)


def finished(number: int) -> WorkflowInstance:
    """A workflow that can be purged; the order in which a purge finds them is not that of their ids."""
    id = f"w{number:02}"
    return workflow(id=id, name=id, status=WorkflowStatus.COMPLETE, complete_time=at(-number))


def save(provider: PostgresPersistenceProvider, ids: list[str], chance: random.Random) -> None:
    """Change and save a workflow, or a few in one transaction, in the order of their ids."""
    with suppress(ConcurrencyError, WorkflowNotFoundError), provider.transaction() as joined:
        for id in sorted(chance.sample(ids, chance.randint(1, 4))):
            instance = joined.get_workflow_instance(id)
            if chance.random() < 0.3:
                instance.revision = None
            become(instance, chance.randrange(50))
            waiting = [subscription(id="", workflow_id=id) for _ in range(3)]
            joined.persist_workflow_with_subscriptions(instance, waiting)


def save_alone(provider: PostgresPersistenceProvider, ids: list[str], chance: random.Random) -> None:
    """The same with one workflow, each call in a transaction of its own."""
    with suppress(ConcurrencyError, WorkflowNotFoundError):
        instance = provider.get_workflow_instance(chance.choice(ids))
        become(instance, chance.randrange(50))
        provider.persist_workflow(instance)


def create(provider: PostgresPersistenceProvider, ids: list[str], chance: random.Random) -> None:
    """Create one again that has been removed, or fail to."""
    with suppress(WorkflowExistsError):
        provider.create_new_workflow(finished(int(chance.choice(ids)[1:])))


def delete(provider: PostgresPersistenceProvider, ids: list[str], chance: random.Random) -> None:
    """Remove one, if it is there."""
    with suppress(WorkflowNotFoundError):
        provider.delete_workflow(chance.choice(ids))


def purge(provider: PostgresPersistenceProvider, _: list[str], chance: random.Random) -> None:
    """Remove all that have been finished, a few a batch."""
    provider.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=chance.randint(1, 4))


def report_errors(provider: PostgresPersistenceProvider, ids: list[str], chance: random.Random) -> None:
    """Store a batch of errors, of workflows in any order."""
    provider.persist_errors([ExecutionError(chance.choice(ids), "first", "message") for _ in range(20)])


@pytest.mark.parametrize("beside", [[], [delete], [purge, purge], [delete, purge]])
def test_saves_beside_what_removes(fragile: PostgresPersistenceProvider, sql: Sql, beside: list[Work]) -> None:
    """Single saves, transactions that save several in one order, creations, errors; deletions and purges.

    Whatever is left at the end belongs to a workflow.
    """
    ids = [fragile.create_new_workflow(finished(number)) for number in range(8)]
    works = [save] * 5 + [save_alone] * 5 + [create, report_errors] + beside * 2
    run([partial(work, fragile, ids) for work in works], 15)
    assert sql(OF_NOBODY) == []


def test_creations_that_share_ids_and_names(fragile: PostgresPersistenceProvider, sql: Sql) -> None:
    """Each has its id in common with some and its name with others."""

    def create_or_delete(chance: random.Random) -> None:
        id, name = str(chance.randrange(4)), str(chance.randrange(4))
        with suppress(WorkflowExistsError):
            fragile.create_new_workflow(workflow(id=id, name=name))
        if chance.random() < 0.5:
            with suppress(WorkflowNotFoundError):
                fragile.delete_workflow(id)

    run([create_or_delete] * 12, 20)
    assert len(sql("SELECT 1 FROM wfc.workflows")) <= 4


def test_events_beside_their_purge(fragile: PostgresPersistenceProvider) -> None:
    ids = [fragile.create_event(event(id=f"e{number}", is_processed=True)) for number in range(20)]

    def mark(chance: random.Random) -> None:
        with suppress(EventNotFoundError):
            fragile.mark_event_unprocessed(chance.choice(ids))
        with suppress(EventNotFoundError):
            fragile.mark_event_processed(chance.choice(ids))

    def mark_several(chance: random.Random) -> None:
        with suppress(EventNotFoundError), fragile.transaction() as joined:
            for id in sorted(chance.sample(ids, 3)):
                joined.mark_event_processed(id)

    def publish(chance: random.Random) -> None:
        with suppress(PersistenceError):
            fragile.create_event(event(id=chance.choice(ids), is_processed=True))

    def clean(chance: random.Random) -> None:
        fragile.purge_events(at(1), batch_size=chance.randint(1, 5))

    run([mark, mark, mark_several, mark_several, publish, publish, publish, clean, clean], 20)


def test_tokens_beside_removals(fragile: PostgresPersistenceProvider) -> None:
    """Subscriptions are taken, returned and terminated while their workflows are saved and removed."""
    ids = [fragile.create_new_workflow(finished(number)) for number in range(4)]

    def deliver(chance: random.Random) -> None:
        found = fragile.get_first_open_subscription("paid", "order-1", at(0))
        with suppress(SubscriptionNotFoundError, SubscriptionTokenError):
            if found and fragile.set_subscription_token(found.id, str(chance.random()), "worker", from_now(60)):
                fragile.terminate_subscription(found.id)

    beside = [partial(work, fragile, ids) for work in (save, save, save, create, delete, purge)]
    run([*[deliver] * 6, *beside], 20)


def test_commands_beside_their_hosts(fragile: PostgresPersistenceProvider, sql: Sql) -> None:
    """Some are scheduled one by one, some several in a transaction in one order, and all are handled meanwhile."""

    def schedule(chance: random.Random) -> None:
        fragile.schedule_command(command(str(chance.randrange(10)), chance.randrange(9)))

    def schedule_several(chance: random.Random) -> None:
        with fragile.transaction() as joined:
            for number in sorted(chance.sample(range(10), 4)):
                joined.schedule_command(command(str(number)))

    def handle(chance: random.Random) -> None:
        def fail(_: object) -> None:
            if chance.random() < 0.3:
                raise ValueError

        with suppress(ExceptionGroup):
            fragile.process_commands(at(999), fail)

    run([schedule] * 4 + [schedule_several] * 4 + [handle] * 4, 25)
    fragile.process_commands(at(999), Recorder())
    assert sql("SELECT * FROM wfc.scheduled_commands") == []
