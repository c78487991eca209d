"""Optimistic locking: a save never overwrites a change that another session committed since the load."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import InProcesses, Sql
from wfe_postgres import (
    ConcurrencyError,
    PersistenceError,
    PersistenceProvider,
    PostgresPersistenceProvider,
    WorkflowInstance,
)
from wfe_postgres.testing.conformance.support import created, pointer, state, subscription, workflow

STORED = """
    SELECT row_to_json(it)::text FROM (
        SELECT w::text AS row, 0 AS place FROM wfc.workflows w UNION ALL
        SELECT p::text, position FROM wfc.execution_pointers p UNION ALL
        SELECT s::text, 0 FROM wfc.event_subscriptions s ORDER BY 2, 1
    ) AS it
"""
REFUSE_POINTERS = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'WFE99'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON wfc.execution_pointers
        FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""


def count_up(provider: PersistenceProvider, id: str, name: str, turns: int) -> int:
    """Increment the counter and add a pointer, `turns` times; return the number of conflicts."""
    conflicts = 0
    for turn in range(turns):
        while not _add(provider, id, f"{name}-{turn}"):
            conflicts += 1
    return conflicts


def _add(provider: PersistenceProvider, id: str, name: str) -> bool:
    instance = provider.get_workflow_instance(id)
    instance.data["counter"] += 1
    instance.execution_pointers.append(pointer(name))
    try:
        provider.persist_workflow(instance)
    except ConcurrencyError:
        return False
    return True


def count_up_in_a_process(url: str, id: str, name: str, turns: int) -> int:
    """`count_up` with a new provider."""
    with PostgresPersistenceProvider(url) as provider:
        return count_up(provider, id, name, turns)


def check_counted(provider: PersistenceProvider, id: str, names: int, turns: int) -> None:
    """Check that the counter and the pointers contain every acknowledged save."""
    stored = provider.get_workflow_instance(id)
    ids = [it.id for it in stored.execution_pointers]
    assert stored.data["counter"] == names * turns
    assert sorted(ids) == sorted(f"{name}-{turn}" for name in range(names) for turn in range(turns))
    for name in range(names):
        own = [it for it in ids if it.startswith(f"{name}-")]
        assert own == [f"{name}-{turn}" for turn in range(turns)], "the pointers are out of order"


@pytest.fixture
def counter(provider: PostgresPersistenceProvider) -> str:
    """The id of a workflow with a counter."""
    instance = workflow(data={"counter": 0})
    instance.execution_pointers = []
    return provider.create_new_workflow(instance)


def test_concurrent_saves_by_threads_lose_no_update(provider: PostgresPersistenceProvider, counter: str) -> None:
    conflicts = run_in_threads(16, lambda name: count_up(provider, counter, str(name), 8))
    assert sum(conflicts) > 0
    check_counted(provider, counter, 16, 8)


@pytest.mark.parametrize(("method", "count"), [("fork", 8), ("spawn", 2)])
def test_concurrent_saves_by_processes_lose_no_update(
    provider: PostgresPersistenceProvider,
    database_url: str,
    counter: str,
    in_processes: InProcesses,
    method: Literal["fork", "spawn"],
    count: int,
) -> None:
    arguments = [(database_url, counter, str(name), 20) for name in range(count)]
    assert sum(in_processes(count_up_in_a_process, arguments, method=method)) > 0
    check_counted(provider, counter, count, 20)


def change_deeply(instance: WorkflowInstance, mark: str) -> None:
    """Change a field, the data and one pointer; add two pointers and remove one."""
    instance.description = mark
    instance.data["order"]["lines"][0]["price"] = mark
    instance.execution_pointers[1].persistence_data["tries"].append(mark)
    instance.execution_pointers[0:1] = [pointer(f"{mark}-1"), pointer(f"{mark}-2")]


@pytest.mark.parametrize("with_subscriptions", [False, True])
def test_save_of_outdated_revision_raises_concurrency_error(
    provider: PostgresPersistenceProvider, sql: Sql, with_subscriptions: bool
) -> None:
    """The stored rows are exactly those of the first save, and the objects of the second are not modified."""
    id = provider.create_new_workflow(workflow())
    first, second = provider.get_workflow_instance(id), provider.get_workflow_instance(id)
    change_deeply(first, "first")
    provider.persist_workflow(first)
    stored = sql(STORED)
    change_deeply(second, "second")
    new_subscription = subscription(id="")
    before = state(second)
    save = partial(provider.persist_workflow_with_subscriptions, second, [new_subscription])
    with pytest.raises(ConcurrencyError) as caught:
        save() if with_subscriptions else provider.persist_workflow(second)
    error = caught.value
    assert (error.workflow_id, error.expected, error.found) == (id, second.revision, first.revision)
    assert sql(STORED) == stored
    assert (state(second), new_subscription.id) == (before, "")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE wfc.workflows SET description = 'looked at'",
        "UPDATE wfc.workflows SET status = status",
        "UPDATE wfc.workflows SET last_heartbeat_at = now()",
        "UPDATE wfc.workflows SET data = data || '{\"counter\": 7}', next_execution = NULL",
    ],
)
def test_update_by_plain_sql_raises_concurrency_error(
    provider: PostgresPersistenceProvider, sql: Sql, statement: str
) -> None:
    instance = created(provider, workflow())
    sql(statement)
    stored = sql(STORED)
    change_deeply(instance, "ours")
    with pytest.raises(ConcurrencyError):
        provider.persist_workflow(instance)
    assert sql(STORED) == stored


def _load(provider: PersistenceProvider, id: str) -> WorkflowInstance:
    return provider.get_workflow_instance(id)


def _load_without_revision(provider: PersistenceProvider, id: str) -> WorkflowInstance:
    instance = provider.get_workflow_instance(id)
    instance.revision = None
    return instance


@pytest.mark.parametrize("load", [_load, _load_without_revision])
def test_save_that_failed_can_be_repeated(
    provider: PostgresPersistenceProvider, sql: Sql, load: Callable[[PersistenceProvider, str], WorkflowInstance]
) -> None:
    """A failed save does not modify the object, so that it can be saved once the cause is removed."""
    instance = load(provider, provider.create_new_workflow(workflow()))
    stored = sql(STORED)
    change_deeply(instance, "ours")
    new_subscription = subscription(id="")
    before = state(instance)
    sql(REFUSE_POINTERS)
    with pytest.raises(PersistenceError) as caught:
        provider.persist_workflow_with_subscriptions(instance, [new_subscription])
    assert caught.value.sqlstate == "WFE99"
    assert (state(instance), new_subscription.id, sql(STORED)) == (before, "", stored)
    sql("DROP TRIGGER refuse ON wfc.execution_pointers")
    provider.persist_workflow_with_subscriptions(instance, [new_subscription])
    assert provider.get_workflow_instance(instance.id) == instance
    assert provider.get_subscription(new_subscription.id) == new_subscription


def test_save_blocked_by_row_lock_depends_on_outcome_of_other_transaction(
    provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    """The save blocks while another transaction holds the row; it succeeds if that rolls back, fails if it commits."""
    instance = created(provider, workflow())
    for commit in (False, True):
        change_deeply(instance, f"ours {commit}")
        with provider.engine.connect() as other:
            rival = provider.using(other).get_workflow_instance(instance.id)
            rival.description = "theirs"
            provider.using(other).persist_workflow(rival)
            outcome = _save_while_locked(provider, instance, sql, other.commit if commit else other.rollback)
        assert (outcome is not None) == commit
    stored = provider.get_workflow_instance(instance.id)
    assert stored.description == "theirs"
    assert isinstance(outcome, ConcurrencyError)
    assert outcome.found == stored.revision


def _save_while_locked(
    provider: PostgresPersistenceProvider, instance: WorkflowInstance, sql: Sql, release: Callable[[], Any]
) -> BaseException | None:
    def save(_: int) -> BaseException | None:
        try:
            provider.persist_workflow(instance)
        except ConcurrencyError as error:
            return error
        return None

    def release_when_blocked(_: int) -> None:
        while not sql("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"):
            pass
        release()

    parts: list[Callable[[int], Any]] = [save, release_when_blocked]
    outcome: BaseException | None = run_in_threads(2, lambda number: parts[number](number))[0]
    return outcome
