"""A save and its subscriptions are one: all of it or nothing, whether it is refused, fails half-way or is killed."""

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
# The whole save then waits for whoever holds the lock, with the workflow, the pointers and two subscriptions written.
WAIT = "PERFORM pg_advisory_xact_lock_shared(3)"
IS_WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def contents(sql: Sql) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, as text."""
    return {table: sql(f"SELECT it::text FROM wfc.{table} it ORDER BY 1") for table in TABLES}


def changed(instance: WorkflowInstance) -> WorkflowInstance:
    """The instance with a change to every part of it."""
    instance.data["changed"] = True
    instance.execution_pointers[0].persistence_data["tries"].append(2)
    instance.execution_pointers[1:] = [pointer("third")]
    return instance


def three_subscriptions(workflow_id: str) -> list[EventSubscription]:
    """New ones without ids, for the steps 1 to 3."""
    return [subscription(id="", workflow_id=workflow_id, step_id=number) for number in (1, 2, 3)]


def test_a_save_of_an_unknown_workflow_writes_nothing(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Not the pointers and not the subscriptions, with and without a stamp; the objects stay as they were."""
    gone = created(provider, workflow())
    provider.delete_workflow(gone.id)
    never_stored = workflow()
    before = contents(sql)
    for instance in (changed(gone), never_stored):
        waiting = three_subscriptions(instance.id)
        was = state(instance)
        with pytest.raises(WorkflowNotFoundError) as caught:
            provider.persist_workflow_with_subscriptions(instance, waiting)
        assert caught.value.workflow_id == instance.id
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)
        assert (state(instance), [it.id for it in waiting]) == (was, ["", "", ""])
    assert contents(sql) == before


@pytest.mark.parametrize("stamped", [True, False])
def test_a_save_that_fails_at_the_third_subscription_writes_nothing(
    provider: PostgresPersistenceProvider, sql: Sql, stamped: bool
) -> None:
    instance = created(provider, workflow())
    if not stamped:
        instance.revision = None
    sql(AT_THE_THIRD.format(action=REFUSE))
    before = contents(sql)
    was = state(changed(instance))
    waiting = three_subscriptions(instance.id)
    with pytest.raises(PersistenceError) as caught:
        provider.persist_workflow_with_subscriptions(instance, waiting)
    assert caught.value.sqlstate == "WFE99"
    assert contents(sql) == before
    assert (state(instance), [it.id for it in waiting]) == (was, ["", "", ""])
    provider.persist_workflow_with_subscriptions(instance, waiting[:2])
    assert provider.get_workflow_instance(instance.id) == instance
    assert provider.get_workflow_subscriptions(instance.id) == sorted(waiting[:2], key=lambda it: it.id)


def save_with_subscriptions(url: str, id: str) -> None:
    """What the process that is killed is about."""
    with PostgresPersistenceProvider(url) as provider:
        instance = provider.get_workflow_instance(id)
        provider.persist_workflow_with_subscriptions(changed(instance), three_subscriptions(id))


@pytest.mark.parametrize("end", ["server", "client"])
def test_a_save_that_is_killed_half_way_is_all_or_nothing(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, end: str
) -> None:
    """Its server process terminated: nothing. Its own process killed: what the server had begun, whole.

    Until then others see the state before, and its lock is gone with it: the next save goes through.
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
    waiting = provider.get_workflow_subscriptions(id)
    if end == "server":
        assert contents(sql) == before
    else:
        assert state(instance) == state(changed(workflow(id=id, name=id))) | {"revision": instance.revision}
        assert sorted(it.step_id for it in waiting) == [1, 2, 3]
    provider.persist_workflow(changed(instance))
    assert provider.get_workflow_instance(id) == instance
