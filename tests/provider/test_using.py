"""`using()`: calls inside a caller's transaction see its writes and are committed or rolled back with it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.provider.app import InTransaction, Order, insert_order
from wfe_postgres import (
    ConcurrencyError,
    PostgresPersistenceProvider,
    PostgresRepositories,
    WorkflowNotFoundError,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    has_event,
    has_workflow,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


def test_calls_are_committed_with_the_callers_transaction(
    provider: Provider, transaction: InTransaction, sql: Sql
) -> None:
    """Writes are visible to others after the caller's commit, and not before."""
    tx = provider.using(transaction.session_or_connection)
    insert_order(transaction)
    instance = workflow()
    tx.create_new_workflow(instance)
    tx.create_event(event(id="event-1"))
    assert not has_workflow(provider, instance.id)
    assert not has_event(provider, "event-1")
    transaction.commit()
    assert provider.get_workflow_instance(instance.id) == instance
    assert has_event(provider, "event-1")
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_calls_are_rolled_back_with_the_callers_transaction(
    provider: Provider, transaction: InTransaction, sql: Sql
) -> None:
    """A rollback undoes the writes of every kind of call, in every table."""
    kept = created(provider, workflow())
    provider.schedule_command(command("kept"))
    waiting = provider.create_event_subscription(subscription())
    tx = provider.using(transaction.session_or_connection)
    insert_order(transaction)
    instance = tx.get_workflow_instance(kept.id)
    instance.data = {"changed": True}
    instance.execution_pointers.append(pointer("new"))
    tx.persist_workflow_with_subscriptions(instance, [subscription(id="new")])
    tx.create_new_workflow(workflow())
    tx.create_event(event())
    assert tx.set_subscription_token(waiting, "token", "worker", from_now(60))
    tx.schedule_command(command("new"))
    assert tx.process_commands(at(1), lambda _: None) == 2
    assert tx.next_definition_sequence("order") == 1
    tx.truncate_all()
    transaction.rollback()
    assert provider.get_workflow_instance(kept.id) == kept
    assert len(provider.find_workflows().items) == 1
    assert provider.get_runnable_events(at(0)) == []
    assert [it.id for it in provider.get_subscriptions("paid", "order-1", at(0))] == [waiting]
    assert sql("SELECT data FROM wfc.scheduled_commands") == [("kept",)]
    assert sql("SELECT count(*) FROM wfc.definition_sequences") == [(0,)]
    assert sql("SELECT id FROM public.orders") == []


def test_calls_see_earlier_writes_of_the_transaction(provider: Provider, transaction: InTransaction) -> None:
    """Writes by the caller's statements and by the provider's calls."""
    tx = provider.using(transaction.session_or_connection)
    id = tx.create_event(event())
    assert tx.get_event(id).id == id
    transaction.run("UPDATE wfc.events SET event_name = 'renamed'")
    assert tx.get_event(id).event_name == "renamed"
    assert tx.get_runnable_events(at(0)) == [id]
    tx.mark_event_processed(id)
    assert tx.get_runnable_events(at(0)) == []
    transaction.rollback()


def test_using_can_be_reused_for_later_transactions(provider: Provider, transaction: InTransaction) -> None:
    """One `using()` serves successive transactions of the same session or connection."""
    tx = provider.using(transaction.session_or_connection)
    tx.create_event(event(id="first"))
    transaction.commit()
    tx.create_event(event(id="second"))
    transaction.rollback()
    tx.create_event(event(id="third"))
    transaction.commit()
    assert provider.get_runnable_events(at(0)) in (["first", "third"], ["first", "second", "third"])
    assert has_event(provider, "first")


def test_save_after_a_rolled_back_save_is_rejected(provider: Provider, transaction: InTransaction) -> None:
    """The object keeps a revision that was never committed, so a save raises ConcurrencyError until it is reloaded."""
    stored = created(provider, workflow())
    instance = provider.get_workflow_instance(stored.id)
    for attempt in ("first", "second"):
        instance.description = attempt
        provider.using(transaction.session_or_connection).persist_workflow(instance)
    transaction.rollback()
    for retry in (instance, copy.deepcopy(instance)):
        with pytest.raises(ConcurrencyError) as caught:
            provider.persist_workflow(retry)
        assert (caught.value.expected, caught.value.found) == (instance.revision, stored.revision)
    assert provider.get_workflow_instance(stored.id) == stored
    again = provider.get_workflow_instance(stored.id)
    again.description = "third"
    provider.persist_workflow(again)
    with pytest.raises(ConcurrencyError):
        provider.using(transaction.session_or_connection).persist_workflow(instance)
    transaction.rollback()


def test_save_after_a_rolled_back_creation_is_rejected(provider: Provider, transaction: InTransaction) -> None:
    """A workflow that another caller has created with the same id is not overwritten."""
    instance = workflow()
    provider.using(transaction.session_or_connection).create_new_workflow(instance)
    transaction.rollback()
    with pytest.raises(WorkflowNotFoundError):
        provider.persist_workflow(instance)
    provider.create_new_workflow(workflow(id=instance.id))
    with pytest.raises(ConcurrencyError):
        provider.persist_workflow(instance)


def test_processed_commands_are_deleted_with_the_transaction(
    provider: Provider, transaction: InTransaction, sql: Sql
) -> None:
    """Deletions and writes of handlers are part of the caller's transaction; a failed command is kept."""
    for data in ("a", "b", "c"):
        provider.schedule_command(command(data))
    tx = provider.using(transaction.session_or_connection)
    seen: list[str] = []

    def handle(due: Any) -> None:
        if due.data == "b":
            raise LookupError(due.data)
        seen.append(due.data)
        tx.create_event(event(id=due.data))

    with pytest.raises(ExceptionGroup) as caught:
        tx.process_commands(at(1), handle)
    assert [it.args for it in caught.value.exceptions] == [("b",)]
    assert seen == ["a", "c"]
    assert sql("SELECT data FROM wfc.scheduled_commands ORDER BY 1") == [("a",), ("b",), ("c",)]
    transaction.commit()
    assert sql("SELECT data FROM wfc.scheduled_commands") == [("b",)]
    assert sql("SELECT id FROM wfc.events ORDER BY 1") == [("a",), ("c",)]
    assert provider.process_commands(at(1), lambda _: None) == 1


def test_commands_are_available_after_a_rollback(provider: Provider, transaction: InTransaction) -> None:
    """All commands of a rolled back transaction can be processed again immediately."""
    for data in ("a", "b"):
        provider.schedule_command(command(data))
    assert provider.using(transaction.session_or_connection).process_commands(at(1), lambda _: None) == 2
    transaction.rollback()
    assert provider.process_commands(at(1), lambda _: None) == 2


def test_token_that_expires_during_the_transaction_can_be_replaced(
    provider: Provider, transaction: InTransaction, sql: Sql
) -> None:
    """Expiry is compared with `clock_timestamp()`, not with the start time of the transaction."""
    transaction.run("SELECT 1")
    expiry = sql("SELECT clock_timestamp() + interval '50 ms'")[0][0]
    held = subscription(external_token="other", external_token_expiry=expiry)
    provider.create_event_subscription(held)
    tx = provider.using(transaction.session_or_connection)
    sql("SELECT pg_sleep(0.1)")
    assert [it.id for it in tx.get_subscriptions("paid", "order-1", at(0))] == [held.id]
    first = tx.get_first_open_subscription("paid", "order-1", at(0))
    assert first is not None
    assert first.id == held.id
    assert tx.get_statistics().expired_subscriptions == 1
    assert tx.set_subscription_token(held.id, "mine", "worker", from_now(60))
    transaction.commit()
    assert provider.get_subscription(held.id).external_token == "mine"


def test_session_is_flushed_before_a_call(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """Pending objects are flushed even with `autoflush=False`."""
    with Session(app_engine, autoflush=False) as session:
        session.add(Order(id="order-1"))
        provider.using(session).create_event(event())
        assert not session.new
        assert sql("SELECT id FROM public.orders") == []
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_flush_error_before_a_call_is_not_wrapped(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """SQLAlchemy's IntegrityError is raised, and the call is not executed."""
    sql("INSERT INTO public.orders VALUES ('order-1')")
    with Session(app_engine) as session:
        session.add(Order(id="order-1"))
        with pytest.raises(IntegrityError, match="orders_pkey"):
            provider.using(session).create_event(event(id="event-1"))
        session.rollback()
        assert not has_event(provider.using(session), "event-1")


def test_purges_are_rolled_back_with_the_transaction(provider: Provider, transaction: InTransaction) -> None:
    """`purge_workflows` and `purge_events` are part of the caller's transaction."""
    for _ in range(3):
        provider.create_new_workflow(workflow(status=WorkflowStatus.COMPLETE, complete_time=at(0)))
        provider.create_event(event(is_processed=True))
    tx = provider.using(transaction.session_or_connection)
    assert tx.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=2) == 3
    assert tx.purge_events(at(1), batch_size=2) == 3
    transaction.rollback()
    assert provider.get_statistics().workflows[WorkflowStatus.COMPLETE] == 3
