"""A save with subscriptions is atomic, whether it is rejected, fails halfway or its process is killed."""

import multiprocessing
from typing import Any

import pytest

from tests.conftest import Sql
from wfe_postgres import (
    EventSubscription,
    PersistenceError,
    PostgresPersistenceProvider,
    WorkflowInstance,
    WorkflowNotFoundError,
)
from wfe_postgres.testing.conformance.support import created, pointer, state, subscription, workflow

TABLES = (
    "workflows",
    "execution_pointers",
    "events",
    "event_subscriptions",
    "execution_errors",
    "scheduled_commands",
    "definition_sequences",
)
AT_THE_THIRD = """
    CREATE FUNCTION public.at_the_third() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {action}; RETURN NEW; END $$;
    CREATE TRIGGER at_the_third AFTER INSERT ON wfc.event_subscriptions
        FOR EACH ROW WHEN (NEW.step_id = 3) EXECUTE FUNCTION public.at_the_third()
"""
REFUSE = "RAISE EXCEPTION 'not the third' USING ERRCODE = 'WFE99'"
# Blocks the save after it has written the workflow, the pointers and two subscriptions, until the lock is released.
WAIT = "PERFORM pg_advisory_xact_lock_shared(3)"
IS_WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def contents(sql: Sql) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, as text."""
    return {table: sql(f"SELECT it::text FROM wfc.{table} it ORDER BY 1") for table in TABLES}


def changed(instance: WorkflowInstance) -> WorkflowInstance:
    """Change every part of the instance."""
    instance.data["changed"] = True
    instance.execution_pointers[0].persistence_data["tries"].append(2)
    instance.execution_pointers[1:] = [pointer("third")]
    return instance


def three_subscriptions(workflow_id: str) -> list[EventSubscription]:
    """New subscriptions without ids, for the steps 1 to 3."""
    return [subscription(id="", workflow_id=workflow_id, step_id=number) for number in (1, 2, 3)]


def test_save_of_unknown_workflow_writes_nothing(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Neither pointers nor subscriptions are written, with or without a revision; the objects are not modified."""
    deleted = created(provider, workflow())
    provider.delete_workflow(deleted.id)
    never_stored = workflow()
    before = contents(sql)
    for instance in (changed(deleted), never_stored):
        subscriptions = three_subscriptions(instance.id)
        was = state(instance)
        with pytest.raises(WorkflowNotFoundError) as caught:
            provider.persist_workflow_with_subscriptions(instance, subscriptions)
        assert caught.value.workflow_id == instance.id
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)
        assert (state(instance), [it.id for it in subscriptions]) == (was, ["", "", ""])
    assert contents(sql) == before


@pytest.mark.parametrize("with_revision", [True, False])
def test_save_failing_at_third_subscription_writes_nothing(
    provider: PostgresPersistenceProvider, sql: Sql, with_revision: bool
) -> None:
    instance = created(provider, workflow())
    if not with_revision:
        instance.revision = None
    sql(AT_THE_THIRD.format(action=REFUSE))
    before = contents(sql)
    was = state(changed(instance))
    subscriptions = three_subscriptions(instance.id)
    with pytest.raises(PersistenceError) as caught:
        provider.persist_workflow_with_subscriptions(instance, subscriptions)
    assert caught.value.sqlstate == "WFE99"
    assert contents(sql) == before
    assert (state(instance), [it.id for it in subscriptions]) == (was, ["", "", ""])
    provider.persist_workflow_with_subscriptions(instance, subscriptions[:2])
    assert provider.get_workflow_instance(instance.id) == instance
    assert provider.get_workflow_subscriptions(instance.id) == sorted(subscriptions[:2], key=lambda it: it.id)


def save_with_subscriptions(url: str, id: str) -> None:
    """Runs in the process that is killed."""
    with PostgresPersistenceProvider(url) as provider:
        instance = provider.get_workflow_instance(id)
        provider.persist_workflow_with_subscriptions(changed(instance), three_subscriptions(id))


@pytest.mark.parametrize("end", ["server", "client"])
def test_save_killed_halfway_is_atomic(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, end: str
) -> None:
    """If the backend is terminated, nothing is written. If the client is killed, the server completes the save.

    Other sessions see the old state until then. The locks of the save are released, so the next save succeeds.
    """
    id = provider.create_new_workflow(workflow())
    before = contents(sql)
    sql(AT_THE_THIRD.format(action=WAIT))
    sql("SELECT pg_advisory_lock(3)")
    host = multiprocessing.get_context("spawn").Process(target=save_with_subscriptions, args=(database_url, id))
    host.start()
    while not (found := sql(IS_WAITING)):
        assert host.is_alive()
    assert contents(sql) == before
    host.kill()
    host.join()
    [(backend,)] = found
    if end == "server":
        sql("SELECT pg_terminate_backend(%s)", [backend])
    sql("SELECT pg_advisory_unlock(3)")
    while sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [backend]):
        pass
    instance = provider.get_workflow_instance(id)
    subscriptions = provider.get_workflow_subscriptions(id)
    if end == "server":
        assert contents(sql) == before
    else:
        assert state(instance) == state(changed(workflow(id=id, name=id))) | {"revision": instance.revision}
        assert sorted(it.step_id for it in subscriptions) == [1, 2, 3]
    provider.persist_workflow(changed(instance))
    assert provider.get_workflow_instance(id) == instance
