"""`delete_workflow`, `purge_workflows` and `purge_events`."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest

from tests.conftest import Sql
from tests.provider.databases import contents, statements_of
from wfe_postgres import (
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    SerializationError,
    WorkflowNotFoundError,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import at, created, event, subscription, workflow

Provider = PostgresPersistenceProvider
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - invalid on purpose


def store_with_related_rows(provider: Provider, **values: Any) -> str:
    """Store a workflow with pointers, subscriptions and errors."""
    instance = workflow(**values)
    provider.create_new_workflow(instance)
    provider.persist_workflow_with_subscriptions(instance, [subscription(workflow_id=instance.id) for _ in range(2)])
    provider.persist_errors([ExecutionError(instance.id, "pointer", "failed") for _ in range(2)])
    return instance.id


def row_counts(sql: Sql, id: str) -> dict[str, int]:
    """The number of rows of the workflow in each table."""
    counts = {"workflows": sql("SELECT count(*) FROM wfc.workflows WHERE id = %s", [id])[0][0]}
    for table in ("execution_pointers", "event_subscriptions", "execution_errors"):
        counts[table] = sql(f"SELECT count(*) FROM wfc.{table} WHERE workflow_id = %s", [id])[0][0]
    return counts


ALL = {"workflows": 1, "execution_pointers": 2, "event_subscriptions": 2, "execution_errors": 2}
NONE = dict.fromkeys(ALL, 0)


def test_delete_workflow_deletes_related_rows(provider: Provider, sql: Sql) -> None:
    """The rows of other workflows are kept, and a second call raises WorkflowNotFoundError."""
    deleted, kept = store_with_related_rows(provider), store_with_related_rows(provider)
    provider.delete_workflow(deleted)
    assert row_counts(sql, deleted) == NONE
    assert row_counts(sql, kept) == ALL
    with pytest.raises(WorkflowNotFoundError) as caught:
        provider.delete_workflow(deleted)
    assert caught.value.workflow_id == deleted


def test_save_after_delete_raises_workflow_not_found(provider: Provider) -> None:
    """A previously loaded object cannot be saved, with or without its revision."""
    instance = created(provider, workflow())
    provider.delete_workflow(instance.id)
    for revision in (instance.revision, None):
        instance.revision = revision
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)


def finished(provider: Provider, count: int, status: WorkflowStatus = WorkflowStatus.COMPLETE) -> list[str]:
    """Store `count` finished workflows, with completion times one second apart."""
    return [store_with_related_rows(provider, status=status, complete_time=at(second)) for second in range(count)]


@pytest.mark.parametrize("status", [WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 1000])
def test_purge_workflows_by_status_and_time(
    provider: Provider, status: WorkflowStatus, batch_size: int, sql: Sql
) -> None:
    """Workflows with the status and an earlier completion time are deleted with their rows, for any batch size."""
    other = WorkflowStatus.TERMINATED if status is WorkflowStatus.COMPLETE else WorkflowStatus.COMPLETE
    old, kept = finished(provider, 6, status), finished(provider, 2, other)
    kept += [
        store_with_related_rows(provider, status=WorkflowStatus.RUNNABLE, complete_time=at(0)),
        store_with_related_rows(provider, status=WorkflowStatus.SUSPENDED),
        store_with_related_rows(provider, status=status, complete_time=None),
        old.pop(),
    ]
    assert provider.purge_workflows(status, at(5), batch_size=batch_size) == 5
    for id in old:
        assert row_counts(sql, id) == NONE
    for id in kept:
        assert row_counts(sql, id) == ALL
    assert provider.purge_workflows(status, at(5), batch_size=batch_size) == 0


def test_each_purge_batch_is_committed(provider: Provider, sql: Sql) -> None:
    """Deletions of earlier batches are kept when a later batch fails."""
    finished(provider, 5)
    sql("""
        CREATE FUNCTION public.keep_two() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF (SELECT count(*) FROM wfc.workflows) <= 2 THEN RAISE 'enough'; END IF; RETURN OLD; END $$
    """)
    sql("CREATE TRIGGER keep_two BEFORE DELETE ON wfc.workflows FOR EACH STATEMENT EXECUTE FUNCTION public.keep_two()")
    try:
        with pytest.raises(PersistenceError, match="P0001"):
            provider.purge_workflows(WorkflowStatus.COMPLETE, at(9), batch_size=2)
        assert sql("SELECT count(*) FROM wfc.workflows") == [(1,)]
    finally:
        sql("DROP FUNCTION public.keep_two CASCADE")


@contextmanager
def locking(url: str, id: str) -> Iterator[None]:
    """Another session locks the workflow's row during the block."""
    with psycopg.connect(url) as other:
        other.execute("SELECT FROM wfc.workflows WHERE id = %s FOR UPDATE", [id])
        yield
        other.rollback()


def test_purge_workflows_skips_locked_rows(provider: Provider, database_url: str, sql: Sql) -> None:
    """The purge does not wait for row locks; a later purge deletes the skipped rows."""
    old = finished(provider, 3)
    with locking(database_url, old[1]):
        assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9), batch_size=1) == 2
    assert row_counts(sql, old[1]) == ALL
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 1


def test_purge_skips_a_workflow_that_becomes_runnable(provider: Provider, database_url: str, sql: Sql) -> None:
    """A workflow that a concurrent transaction sets to Runnable is not deleted."""
    (id,) = finished(provider, 1)
    with psycopg.connect(database_url) as host:
        host.execute("UPDATE wfc.workflows SET status = 'Runnable' WHERE id = %s", [id])
        assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 0
        host.commit()
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(9)) == 0
    assert row_counts(sql, id) == ALL


def test_concurrent_purges_count_each_workflow_once(provider: Provider) -> None:
    """The sum of the counts of four concurrent purges is the number of workflows."""
    finished(provider, 30)
    counts: list[int] = []
    start = threading.Barrier(4)

    def purge() -> None:
        start.wait(10)
        counts.append(provider.purge_workflows(WorkflowStatus.COMPLETE, at(100), batch_size=3))

    threads = [threading.Thread(target=purge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 30


@pytest.mark.parametrize("status", [WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED, "Sleeping", None])
def test_purge_of_unfinished_workflows_is_rejected(provider: Provider, database_url: str, status: Any) -> None:
    """A ValueError for other statuses, before a statement is sent."""
    finished(provider, 1)
    before = contents(database_url)
    with statements_of(provider.engine) as sent, pytest.raises(ValueError, match="Complete and Terminated"):
        provider.purge_workflows(status, at(9))
    assert sent == []
    assert contents(database_url) == before


def test_purge_with_naive_datetime_is_rejected(provider: Provider) -> None:
    """A SerializationError before a statement is sent."""
    calls: Sequence[Callable[[], object]] = (
        lambda: provider.purge_workflows(WorkflowStatus.COMPLETE, NAIVE),
        lambda: provider.purge_events(NAIVE),
    )
    for call in calls:
        with statements_of(provider.engine) as sent, pytest.raises(SerializationError) as caught:
            call()
        assert caught.value.path == "older_than"
        assert sent == []


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_purge_events_deletes_old_processed_events(provider: Provider, batch_size: int) -> None:
    """Processed events with an earlier time are deleted, for any batch size."""
    for second in range(5):
        provider.create_event(event(id=f"processed {second}", event_time=at(second), is_processed=True))
        provider.create_event(event(id=f"waiting {second}", event_time=at(second)))
    assert provider.purge_events(at(3), batch_size=batch_size) == 3
    assert provider.get_events("paid", "order-1", at(9)) == [
        "waiting 0",
        "waiting 1",
        "waiting 2",
        "processed 3",
        "waiting 3",
        "processed 4",
        "waiting 4",
    ]
    assert provider.purge_events(at(3), batch_size=batch_size) == 0


def test_purge_events_skips_locked_rows(provider: Provider, database_url: str) -> None:
    """The purge does not wait for row locks; a later purge deletes the skipped rows."""
    for id in ("a", "b", "c"):
        provider.create_event(event(id=id, is_processed=True))
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.events WHERE id = 'b' FOR UPDATE")
        assert provider.purge_events(at(9), batch_size=1) == 2
        other.rollback()
    assert provider.purge_events(at(9)) == 1
