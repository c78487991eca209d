"""The provider inside a caller's transaction: it sees what that wrote, never ends it, and leaves it usable."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.provider.app import TRANSACTIONS, InTransaction, Open, Order, insert_order
from wfe_postgres import (
    ConcurrencyError,
    EventNotFoundError,
    PersistenceError,
    PostgresPersistenceProvider,
    PostgresRepositories,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WfeError,
    WorkflowExistsError,
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
    state,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


def test_committed_together(provider: Provider, begun: InTransaction, sql: Sql) -> None:
    """What the provider writes is there when the caller commits, and nowhere before."""
    tx = provider.using(begun.session_or_connection)
    insert_order(begun)
    instance = workflow()
    tx.create_new_workflow(instance)
    tx.create_event(event(id="event-1"))
    assert not has_workflow(provider, instance.id)
    assert not has_event(provider, "event-1")
    begun.commit()
    assert provider.get_workflow_instance(instance.id) == instance
    assert has_event(provider, "event-1")
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_rolled_back_together(provider: Provider, begun: InTransaction, sql: Sql) -> None:
    """A rollback takes away everything that any call wrote, in every table."""
    kept = created(provider, workflow())
    provider.schedule_command(command("kept"))
    waiting = provider.create_event_subscription(subscription())
    tx = provider.using(begun.session_or_connection)
    insert_order(begun)
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
    begun.rollback()
    assert provider.get_workflow_instance(kept.id) == kept
    assert len(provider.find_workflows().items) == 1
    assert provider.get_runnable_events(at(0)) == []
    assert [it.id for it in provider.get_subscriptions("paid", "order-1", at(0))] == [waiting]
    assert sql("SELECT data FROM wfc.scheduled_commands") == [("kept",)]
    assert sql("SELECT count(*) FROM wfc.definition_sequences") == [(0,)]
    assert sql("SELECT id FROM public.orders") == []


def test_it_sees_what_the_transaction_wrote(provider: Provider, begun: InTransaction) -> None:
    """By the caller's own statements, and by the provider's."""
    tx = provider.using(begun.session_or_connection)
    id = tx.create_event(event())
    assert tx.get_event(id).id == id
    begun.run("UPDATE wfc.events SET event_name = 'renamed'")
    assert tx.get_event(id).event_name == "renamed"
    assert tx.get_runnable_events(at(0)) == [id]
    tx.mark_event_processed(id)
    assert tx.get_runnable_events(at(0)) == []
    begun.rollback()


def test_the_same_place_serves_its_next_transaction(provider: Provider, begun: InTransaction) -> None:
    """One `using` for many transactions of a place."""
    tx = provider.using(begun.session_or_connection)
    tx.create_event(event(id="first"))
    begun.commit()
    tx.create_event(event(id="second"))
    begun.rollback()
    tx.create_event(event(id="third"))
    begun.commit()
    assert provider.get_runnable_events(at(0)) in (["first", "third"], ["first", "second", "third"])
    assert has_event(provider, "first")


REFUSALS: dict[str, tuple[type[WfeError], Call]] = {
    "an id that is taken": (WorkflowExistsError, lambda it: it.create_new_workflow(workflow(id="there"))),
    "a name that is taken": (WorkflowExistsError, lambda it: it.create_new_workflow(workflow(name="there"))),
    "no workflow to get": (WorkflowNotFoundError, lambda it: it.get_workflow_instance("missing")),
    "no workflow of the name": (WorkflowNotFoundError, lambda it: it.get_workflow_instance_by_name("missing")),
    "no workflow to save": (WorkflowNotFoundError, lambda it: it.persist_workflow(workflow())),
    "no workflow to save, loaded": (WorkflowNotFoundError, lambda it: it.persist_workflow(workflow(revision=1))),
    "no workflow to delete": (WorkflowNotFoundError, lambda it: it.delete_workflow("missing")),
    "a stale workflow": (ConcurrencyError, lambda it: it.persist_workflow(workflow(id="there", revision=1))),
    "no event to get": (EventNotFoundError, lambda it: it.get_event("missing")),
    "no event to mark": (EventNotFoundError, lambda it: it.mark_event_processed("missing")),
    "no event to unmark": (EventNotFoundError, lambda it: it.mark_event_unprocessed("missing")),
    "no subscription to get": (SubscriptionNotFoundError, lambda it: it.get_subscription("missing")),
    "no subscription to end": (SubscriptionNotFoundError, lambda it: it.terminate_subscription("missing")),
    "no subscription to clear": (SubscriptionNotFoundError, lambda it: it.clear_subscription_token("missing", "t")),
    "no subscription to take": (
        SubscriptionNotFoundError,
        lambda it: it.set_subscription_token("missing", "t", "w", from_now(60)),
    ),
    "another's token": (SubscriptionTokenError, lambda it: it.clear_subscription_token("held", "mine")),
}


@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_refusals_leave_the_transaction_usable(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open, sql: Sql
) -> None:
    """They come without a failing statement: the application goes on and commits."""
    provider.create_new_workflow(workflow(id="there", name="there"))
    provider.create_event_subscription(subscription(id="held", external_token="another's"))
    with open_transaction(app_engine, database_url) as begun:
        tx = provider.using(begun.session_or_connection)
        insert_order(begun)
        for kind, call in REFUSALS.values():
            with pytest.raises(kind):
                call(tx)
        assert not tx.set_subscription_token("held", "mine", "worker", from_now(60))
        tx.create_event(event())
        begun.commit()
    assert sql("SELECT id FROM public.orders") == [("order-1",)]
    assert len(provider.get_runnable_events(at(0))) == 1


def test_what_the_database_refuses(provider: Provider, begun: InTransaction) -> None:
    """An event that is stored already: a `PersistenceError` with its constraint, and the caller rolls back."""
    provider.create_event(event(id="there"))
    with pytest.raises(PersistenceError) as caught:
        provider.using(begun.session_or_connection).create_event(event(id="there"))
    assert (caught.value.sqlstate, caught.value.constraint) == ("23505", "events_pkey")
    begun.rollback()
    assert provider.using(begun.session_or_connection).get_event("there").id == "there"
    begun.rollback()


def test_a_stamp_of_a_rolled_back_save(provider: Provider, begun: InTransaction) -> None:
    """It is no state's, so the next save is refused, whatever others wrote meanwhile; a fresh load is fine."""
    stored = created(provider, workflow())
    instance = provider.get_workflow_instance(stored.id)
    for attempt in ("first", "second"):
        instance.description = attempt
        provider.using(begun.session_or_connection).persist_workflow(instance)
    begun.rollback()
    for retry in (instance, copy.deepcopy(instance)):
        with pytest.raises(ConcurrencyError) as caught:
            provider.persist_workflow(retry)
        assert (caught.value.expected, caught.value.found) == (instance.revision, stored.revision)
    assert provider.get_workflow_instance(stored.id) == stored
    again = provider.get_workflow_instance(stored.id)
    again.description = "third"
    provider.persist_workflow(again)
    with pytest.raises(ConcurrencyError):
        provider.using(begun.session_or_connection).persist_workflow(instance)
    begun.rollback()


def test_a_stamp_of_a_rolled_back_creation(provider: Provider, begun: InTransaction) -> None:
    """The same workflow, created by another meanwhile, is not overwritten."""
    instance = workflow()
    provider.using(begun.session_or_connection).create_new_workflow(instance)
    begun.rollback()
    with pytest.raises(WorkflowNotFoundError):
        provider.persist_workflow(instance)
    provider.create_new_workflow(workflow(id=instance.id))
    with pytest.raises(ConcurrencyError):
        provider.persist_workflow(instance)


def test_commands_inside_a_transaction(provider: Provider, begun: InTransaction, sql: Sql) -> None:
    """The removals belong to it, so does what a handler writes through it; a failed command stays."""
    for data in ("a", "b", "c"):
        provider.schedule_command(command(data))
    tx = provider.using(begun.session_or_connection)
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
    begun.commit()
    assert sql("SELECT data FROM wfc.scheduled_commands") == [("b",)]
    assert sql("SELECT id FROM wfc.events ORDER BY 1") == [("a",), ("c",)]
    assert provider.process_commands(at(1), lambda _: None) == 1


def test_commands_of_a_transaction_that_is_rolled_back(provider: Provider, begun: InTransaction) -> None:
    """They are all there again, and at once."""
    for data in ("a", "b"):
        provider.schedule_command(command(data))
    assert provider.using(begun.session_or_connection).process_commands(at(1), lambda _: None) == 2
    begun.rollback()
    assert provider.process_commands(at(1), lambda _: None) == 2


def test_a_token_that_expires_during_the_transaction(provider: Provider, begun: InTransaction, sql: Sql) -> None:
    """It is judged by the clock as it is now, not as it was when the transaction began."""
    begun.run("SELECT 1")
    moment = sql("SELECT clock_timestamp() + interval '50 ms'")[0][0]
    held = subscription(external_token="another's", external_token_expiry=moment)
    provider.create_event_subscription(held)
    tx = provider.using(begun.session_or_connection)
    sql("SELECT pg_sleep(0.1)")
    assert [it.id for it in tx.get_subscriptions("paid", "order-1", at(0))] == [held.id]
    first = tx.get_first_open_subscription("paid", "order-1", at(0))
    assert first is not None
    assert first.id == held.id
    assert tx.get_statistics().expired_subscriptions == 1
    assert tx.set_subscription_token(held.id, "mine", "worker", from_now(60))
    begun.commit()
    assert provider.get_subscription(held.id).external_token == "mine"


def test_the_session_flushes_first(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """What the application has added is sent before, even where the session would not do it by itself."""
    with Session(app_engine, autoflush=False) as session:
        session.add(Order(id="order-1"))
        provider.using(session).create_event(event())
        assert not session.new
        assert sql("SELECT id FROM public.orders") == []
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_what_fails_in_the_flush_is_the_applications_own(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """An IntegrityError of SQLAlchemy, not one of ours; nothing of the call took place."""
    sql("INSERT INTO public.orders VALUES ('order-1')")
    with Session(app_engine) as session:
        session.add(Order(id="order-1"))
        with pytest.raises(IntegrityError, match="orders_pkey"):
            provider.using(session).create_event(event(id="event-1"))
        session.rollback()
        assert not has_event(provider.using(session), "event-1")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_a_conflict_under_a_stricter_level(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open, level: str
) -> None:
    """Nothing is retried: the caller sees 40001 and that the transaction may be run again."""
    id = provider.create_new_workflow(workflow())
    with open_transaction(app_engine, database_url) as begun:
        begun.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
        tx = provider.using(begun.session_or_connection)
        instance = tx.get_workflow_instance(id)
        faster = provider.get_workflow_instance(id)
        faster.description = "faster"
        provider.persist_workflow(faster)
        instance.description = "slower"
        before = state(instance)
        with pytest.raises(PersistenceError) as caught:
            tx.persist_workflow(instance)
        assert caught.value.sqlstate == "40001"
        assert caught.value.retryable
        assert state(instance) == before
        begun.rollback()
    assert provider.get_workflow_instance(id) == faster


@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_an_existing_workflow_under_a_stricter_level(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open
) -> None:
    """One that is there in the snapshot is a WorkflowExistsError; one that came after it is a conflict."""
    provider.create_new_workflow(workflow(id="before"))
    with open_transaction(app_engine, database_url) as begun:
        begun.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tx = provider.using(begun.session_or_connection)
        with pytest.raises(WorkflowExistsError):
            tx.create_new_workflow(workflow(id="before"))
        provider.create_new_workflow(workflow(id="after"))
        with pytest.raises(PersistenceError) as caught:
            tx.create_new_workflow(workflow(id="after"))
        assert caught.value.sqlstate == "40001"
        begun.rollback()


def test_purges_inside_a_transaction(provider: Provider, begun: InTransaction) -> None:
    """They go with it, too."""
    for _ in range(3):
        provider.create_new_workflow(workflow(status=WorkflowStatus.COMPLETE, complete_time=at(0)))
        provider.create_event(event(is_processed=True))
    tx = provider.using(begun.session_or_connection)
    assert tx.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=2) == 3
    assert tx.purge_events(at(1), batch_size=2) == 3
    begun.rollback()
    assert provider.get_statistics().workflows[WorkflowStatus.COMPLETE] == 3
