"""Concurrent calls of the provider do not deadlock.

The providers in these tests do not retry, so a deadlock would surface as an error. The deadlock counter of the server
is checked as well.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import pytest

from tests.concurrency.support import run_in_threads, set_generation
from tests.conftest import Sql
from wfe_postgres import (
    ConcurrencyError,
    EventNotFoundError,
    ExecutionError,
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
ORPHANS = """
    SELECT 'pointer' FROM wfc.execution_pointers p WHERE NOT EXISTS (SELECT FROM wfc.workflows WHERE id = p.workflow_id)
    UNION ALL SELECT 'subscription' FROM wfc.event_subscriptions s
    WHERE NOT EXISTS (SELECT FROM wfc.workflows WHERE id = s.workflow_id)
"""

Part = Callable[[random.Random], object]
Work = Callable[[PostgresPersistenceProvider, list[str], random.Random], None]


@pytest.fixture
def no_retry_provider(database_url: str, sql: Sql) -> Iterator[PostgresPersistenceProvider]:
    """A provider without retries; after it is closed, the server must have counted no deadlock."""
    with PostgresPersistenceProvider(database_url, retry_budget=0, pool_size=16) as provider:
        yield provider
    while sql(OTHERS):
        pass  # backends report their statistics when they exit, at the latest
    assert sql(DEADLOCKS) == [(0,)]


def run(parts: Sequence[Part], turns: int) -> None:
    """Run the parts concurrently, each `turns` times and with its own random generator."""

    def repeat(number: int) -> None:
        rng = random.Random(number)
        for _ in range(turns):
            parts[number](rng)

    run_in_threads(len(parts), repeat)


def finished(number: int) -> WorkflowInstance:
    """A workflow that can be purged; purge order (completion time) is the reverse of id order."""
    id = f"w{number:02}"
    return workflow(id=id, name=id, status=WorkflowStatus.COMPLETE, complete_time=at(-number))


def save(provider: PostgresPersistenceProvider, ids: list[str], rng: random.Random) -> None:
    """Change and save one to four workflows in one transaction, ordered by id."""
    with suppress(ConcurrencyError, WorkflowNotFoundError), provider.transaction() as joined:
        for id in sorted(rng.sample(ids, rng.randint(1, 4))):
            instance = joined.get_workflow_instance(id)
            if rng.random() < 0.3:
                instance.revision = None
            set_generation(instance, rng.randrange(50))
            waiting = [subscription(id="", workflow_id=id) for _ in range(3)]
            joined.persist_workflow_with_subscriptions(instance, waiting)


def save_alone(provider: PostgresPersistenceProvider, ids: list[str], rng: random.Random) -> None:
    """Change and save one workflow, each call in its own transaction."""
    with suppress(ConcurrencyError, WorkflowNotFoundError):
        instance = provider.get_workflow_instance(rng.choice(ids))
        set_generation(instance, rng.randrange(50))
        provider.persist_workflow(instance)


def create(provider: PostgresPersistenceProvider, ids: list[str], rng: random.Random) -> None:
    """Create a workflow again, if it has been deleted."""
    with suppress(WorkflowExistsError):
        provider.create_new_workflow(finished(int(rng.choice(ids)[1:])))


def delete(provider: PostgresPersistenceProvider, ids: list[str], rng: random.Random) -> None:
    """Delete a workflow, if it exists."""
    with suppress(WorkflowNotFoundError):
        provider.delete_workflow(rng.choice(ids))


def purge(provider: PostgresPersistenceProvider, _: list[str], rng: random.Random) -> None:
    """Purge completed workflows in small batches."""
    provider.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=rng.randint(1, 4))


def report_errors(provider: PostgresPersistenceProvider, ids: list[str], rng: random.Random) -> None:
    """Store a batch of errors, for workflows in random order."""
    provider.persist_errors([ExecutionError(rng.choice(ids), "first", "message") for _ in range(20)])


@pytest.mark.parametrize("concurrent", [[], [delete], [purge, purge], [delete, purge]])
def test_saves_concurrent_with_deletions_and_purges_do_not_deadlock(
    no_retry_provider: PostgresPersistenceProvider, sql: Sql, concurrent: list[Work]
) -> None:
    """Single saves, transactions that save several workflows ordered by id, creations, errors, deletions, purges.

    No pointer or subscription is left without its workflow.
    """
    ids = [no_retry_provider.create_new_workflow(finished(number)) for number in range(8)]
    works = [save] * 5 + [save_alone] * 5 + [create, report_errors] + concurrent * 2
    run([partial(work, no_retry_provider, ids) for work in works], 15)
    assert sql(ORPHANS) == []


def test_creations_with_overlapping_ids_and_names_do_not_deadlock(
    no_retry_provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    """Each workflow shares its id with some of the others and its name with different ones."""

    def create_or_delete(rng: random.Random) -> None:
        id, name = str(rng.randrange(4)), str(rng.randrange(4))
        with suppress(WorkflowExistsError):
            no_retry_provider.create_new_workflow(workflow(id=id, name=name))
        if rng.random() < 0.5:
            with suppress(WorkflowNotFoundError):
                no_retry_provider.delete_workflow(id)

    run([create_or_delete] * 12, 20)
    assert len(sql("SELECT 1 FROM wfc.workflows")) <= 4


def test_event_marks_concurrent_with_purges_do_not_deadlock(no_retry_provider: PostgresPersistenceProvider) -> None:
    ids = [no_retry_provider.create_event(event(id=f"e{number}", is_processed=True)) for number in range(20)]

    def mark(rng: random.Random) -> None:
        with suppress(EventNotFoundError):
            no_retry_provider.mark_event_unprocessed(rng.choice(ids))
        with suppress(EventNotFoundError):
            no_retry_provider.mark_event_processed(rng.choice(ids))

    def mark_several(rng: random.Random) -> None:
        with suppress(EventNotFoundError), no_retry_provider.transaction() as joined:
            for id in sorted(rng.sample(ids, 3)):
                joined.mark_event_processed(id)

    def publish(rng: random.Random) -> None:
        no_retry_provider.create_event(event(id=rng.choice(ids), is_processed=True), if_new=True)

    def clean(rng: random.Random) -> None:
        no_retry_provider.purge_events(at(1), batch_size=rng.randint(1, 5))

    run([mark, mark, mark_several, mark_several, publish, publish, publish, clean, clean], 20)


def test_subscription_tokens_concurrent_with_deletions_do_not_deadlock(
    no_retry_provider: PostgresPersistenceProvider,
) -> None:
    """Subscriptions are locked and terminated while their workflows are saved and deleted."""
    ids = [no_retry_provider.create_new_workflow(finished(number)) for number in range(4)]

    def deliver(rng: random.Random) -> None:
        found = no_retry_provider.get_first_open_subscription("paid", "order-1", at(0))
        with suppress(SubscriptionNotFoundError, SubscriptionTokenError):
            if found and no_retry_provider.set_subscription_token(found.id, str(rng.random()), "worker", from_now(60)):
                no_retry_provider.terminate_subscription(found.id)

    concurrent = [partial(work, no_retry_provider, ids) for work in (save, save, save, create, delete, purge)]
    run([*[deliver] * 6, *concurrent], 20)


def test_command_scheduling_concurrent_with_handling_does_not_deadlock(
    no_retry_provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    """Commands are scheduled singly and several per transaction, ordered by data, while others handle them."""

    def schedule(rng: random.Random) -> None:
        no_retry_provider.schedule_command(command(str(rng.randrange(10)), rng.randrange(9)))

    def schedule_several(rng: random.Random) -> None:
        with no_retry_provider.transaction() as joined:
            for number in sorted(rng.sample(range(10), 4)):
                joined.schedule_command(command(str(number)))

    def handle(rng: random.Random) -> None:
        def fail(_: object) -> None:
            if rng.random() < 0.3:
                raise ValueError

        with suppress(ExceptionGroup):
            no_retry_provider.process_commands(at(999), fail)

    run([schedule] * 4 + [schedule_several] * 4 + [handle] * 4, 25)
    no_retry_provider.process_commands(at(999), Recorder())
    assert sql("SELECT * FROM wfc.scheduled_commands") == []
