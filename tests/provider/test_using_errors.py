"""Errors raised inside a caller's transaction: which of them leave it usable, and conflicts at stricter isolation."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from tests.conftest import Sql
from tests.provider.app import TRANSACTIONS, InTransaction, Open, insert_order, take_anothers_name
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
)
from wfe_postgres.testing.conformance.support import at, event, from_now, state, subscription, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


REJECTIONS: dict[str, tuple[type[WfeError], Call]] = {
    "create: id exists": (WorkflowExistsError, lambda it: it.create_new_workflow(workflow(id="there"))),
    "create: name exists": (WorkflowExistsError, lambda it: it.create_new_workflow(workflow(name="there"))),
    "get: missing workflow": (WorkflowNotFoundError, lambda it: it.get_workflow_instance("missing")),
    "get: missing name": (WorkflowNotFoundError, lambda it: it.get_workflow_instance_by_name("missing")),
    "save: missing workflow": (WorkflowNotFoundError, lambda it: it.persist_workflow(workflow())),
    "save: missing workflow, with a revision": (
        WorkflowNotFoundError,
        lambda it: it.persist_workflow(workflow(revision=1)),
    ),
    "delete: missing workflow": (WorkflowNotFoundError, lambda it: it.delete_workflow("missing")),
    "save: stale revision": (ConcurrencyError, lambda it: it.persist_workflow(workflow(id="there", revision=1))),
    "get: missing event": (EventNotFoundError, lambda it: it.get_event("missing")),
    "mark processed: missing event": (EventNotFoundError, lambda it: it.mark_event_processed("missing")),
    "mark unprocessed: missing event": (EventNotFoundError, lambda it: it.mark_event_unprocessed("missing")),
    "get: missing subscription": (SubscriptionNotFoundError, lambda it: it.get_subscription("missing")),
    "terminate: missing subscription": (SubscriptionNotFoundError, lambda it: it.terminate_subscription("missing")),
    "clear token: missing subscription": (
        SubscriptionNotFoundError,
        lambda it: it.clear_subscription_token("missing", "t"),
    ),
    "set token: missing subscription": (
        SubscriptionNotFoundError,
        lambda it: it.set_subscription_token("missing", "t", "w", from_now(60)),
    ),
    "clear token: wrong token": (SubscriptionTokenError, lambda it: it.clear_subscription_token("held", "mine")),
}


@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_rejected_calls_leave_the_transaction_usable(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open, sql: Sql
) -> None:
    """These errors are raised without a failed statement, so the caller can continue and commit."""
    provider.create_new_workflow(workflow(id="there", name="there"))
    provider.create_event_subscription(subscription(id="held", external_token="other"))
    with open_transaction(app_engine, database_url) as transaction:
        tx = provider.using(transaction.session_or_connection)
        insert_order(transaction)
        for kind, call in REJECTIONS.values():
            with pytest.raises(kind):
                call(tx)
        assert not tx.set_subscription_token("held", "mine", "worker", from_now(60))
        tx.create_event(event())
        transaction.commit()
    assert sql("SELECT id FROM public.orders") == [("order-1",)]
    assert len(provider.get_runnable_events(at(0))) == 1


def test_unique_violation_raises_persistence_error(provider: Provider, transaction: InTransaction) -> None:
    """The error for a taken name has the SQLSTATE and the constraint; the caller has to roll back."""
    provider.create_event(event(id="there"))
    with pytest.raises(PersistenceError) as caught:
        take_anothers_name(provider.using(transaction.session_or_connection))
    assert (caught.value.sqlstate, caught.value.constraint) == ("23505", "workflows_name_key")
    transaction.rollback()
    assert provider.using(transaction.session_or_connection).get_event("there").id == "there"
    transaction.rollback()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_serialization_failure_is_retryable_and_not_retried(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open, level: str
) -> None:
    """At stricter isolation levels a conflict raises 40001 at once; the caller can retry the transaction."""
    id = provider.create_new_workflow(workflow())
    with open_transaction(app_engine, database_url) as transaction:
        transaction.run(f"SET TRANSACTION ISOLATION LEVEL {level}")
        tx = provider.using(transaction.session_or_connection)
        instance = tx.get_workflow_instance(id)
        concurrent = provider.get_workflow_instance(id)
        concurrent.description = "concurrent"
        provider.persist_workflow(concurrent)
        instance.description = "later"
        before = state(instance)
        with pytest.raises(PersistenceError) as caught:
            tx.persist_workflow(instance)
        assert caught.value.sqlstate == "40001"
        assert caught.value.retryable
        assert state(instance) == before
        transaction.rollback()
    assert provider.get_workflow_instance(id) == concurrent


@pytest.mark.parametrize("open_transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_create_existing_workflow_at_repeatable_read_raises_by_snapshot(
    provider: Provider, app_engine: Engine, database_url: str, open_transaction: Open
) -> None:
    """WorkflowExistsError if the snapshot contains the workflow, 40001 if it was created after the snapshot."""
    provider.create_new_workflow(workflow(id="before"))
    with open_transaction(app_engine, database_url) as transaction:
        transaction.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tx = provider.using(transaction.session_or_connection)
        with pytest.raises(WorkflowExistsError):
            tx.create_new_workflow(workflow(id="before"))
        provider.create_new_workflow(workflow(id="after"))
        with pytest.raises(PersistenceError) as caught:
            tx.create_new_workflow(workflow(id="after"))
        assert caught.value.sqlstate == "40001"
        transaction.rollback()
