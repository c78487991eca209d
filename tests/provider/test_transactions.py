"""`transaction()`: a new transaction, or a savepoint within an existing one."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.provider.app import InTransaction, Order, insert_order, take_anothers_name
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, PostgresRepositories, WorkflowNotFoundError
from wfe_postgres.testing.conformance.support import at, created, event, has_event, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


def test_calls_in_a_block_commit_together(provider: Provider) -> None:
    """They are committed at the end of the block and are not visible before."""
    with provider.transaction() as tx:
        id = tx.create_event(event())
        tx.mark_event_processed(id)
        instance = created(tx, workflow())
        assert not has_event(provider, id)
    assert provider.get_event(id).is_processed
    assert provider.get_workflow_instance(instance.id) == instance


class AppError(Exception):
    """An exception of the application."""


def in_block(provider: PostgresRepositories, *calls: Call) -> None:
    """Make the calls in one `transaction()` block, each with the repositories of the block."""
    with provider.transaction() as tx:
        for call in calls:
            call(tx)


def raiser(error: BaseException) -> Call:
    """A call that raises the error."""

    def call(_: PostgresRepositories) -> None:
        raise error

    return call


def store(*ids: str) -> Call:
    """A call that stores events with these ids."""
    return lambda it: [it.create_event(event(id=id)) for id in ids]


def caught_violation(provider: PostgresRepositories) -> None:
    """A call in which a statement fails, and which catches the error."""
    with pytest.raises(PersistenceError):
        take_anothers_name(provider)


@pytest.mark.parametrize("kind", [AppError, KeyboardInterrupt, OSError, IntegrityError, WorkflowNotFoundError])
def test_exception_in_a_block_rolls_back_and_propagates(provider: Provider, kind: Any) -> None:
    """The same exception object is raised, without a cause."""
    raised = kind("statement", {}, AppError()) if kind is IntegrityError else kind("raised in the block")
    with pytest.raises(kind) as caught:
        in_block(provider, store("event-1"), raiser(raised))
    assert caught.value is raised
    assert caught.value.__cause__ is None
    assert not has_event(provider, "event-1")


@pytest.mark.parametrize("kind", [AppError, KeyboardInterrupt, OSError, IntegrityError, WorkflowNotFoundError])
def test_exception_in_a_savepoint_rolls_back_and_propagates(
    provider: Provider, transaction: InTransaction, kind: Any
) -> None:
    """The savepoint is rolled back and the same exception object is raised."""
    raised = kind("statement", {}, AppError()) if kind is IntegrityError else kind("raised in the block")
    tx = provider.using(transaction.session_or_connection)
    with pytest.raises(kind) as caught:
        in_block(tx, store("event-1"), raiser(raised))
    assert caught.value is raised
    assert not has_event(tx, "event-1")
    transaction.rollback()


def test_nested_transaction_is_a_savepoint(provider: Provider) -> None:
    """When a nested block fails, only its own writes are rolled back."""
    with provider.transaction() as outer:
        outer.create_event(event(id="outer"))
        with pytest.raises(AppError):
            in_block(outer, store("inner"), raiser(AppError()))
        with outer.transaction() as inner:
            inner.create_event(event(id="inner again"))
            with pytest.raises(PersistenceError, match="23505"):
                in_block(inner, take_anothers_name)
        assert outer.get_runnable_events(at(0)) == ["inner again", "outer"]
        assert provider.get_runnable_events(at(0)) == []
    assert provider.get_runnable_events(at(0)) == ["inner again", "outer"]


def test_failed_savepoint_keeps_the_callers_writes(provider: Provider, transaction: InTransaction, sql: Sql) -> None:
    """A nested block is a savepoint in every kind of session and connection; earlier rows of the caller are kept."""
    tx = provider.using(transaction.session_or_connection)
    insert_order(transaction)
    with pytest.raises(PersistenceError, match="23505"):
        in_block(tx, store("event-1"), take_anothers_name)
    in_block(tx, store("event-2"))
    transaction.commit()
    assert provider.get_runnable_events(at(0)) == ["event-2"]
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_session_is_flushed_before_a_savepoint(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """Objects added before the block are kept when the block is rolled back."""
    with Session(app_engine) as session:
        session.add(Order(id="before"))
        with pytest.raises(AppError):
            in_block(provider.using(session), store("event-1"), raiser(AppError()))
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("before",)]
    assert not has_event(provider, "event-1")


def test_rolled_back_savepoint_expunges_its_objects(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """The session tracks the savepoint: an object added in the block can be added again after the rollback."""
    order = Order(id="inside")
    with Session(app_engine) as session:
        with pytest.raises(AppError):
            in_block(
                provider.using(session),
                lambda _: session.add(order),
                store("event-1"),
                raiser(AppError()),
            )
        assert session.get(Order, "inside") is None
        session.add(Order(id="inside"))
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("inside",)]


def test_flush_error_of_a_savepoint_is_not_wrapped(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """SQLAlchemy's IntegrityError is raised, from the flush before the block and from the flush at its end."""
    sql("INSERT INTO public.orders VALUES ('order-1')")
    with Session(app_engine) as session:
        session.add(Order(id="order-1"))
        with pytest.raises(IntegrityError):
            in_block(provider.using(session))
        session.rollback()
        with pytest.raises(IntegrityError):
            in_block(provider.using(session), lambda _: session.add(Order(id="order-1")))
        session.rollback()


def test_block_with_a_caught_database_error_is_not_committed(provider: Provider) -> None:
    """The transaction is aborted after a failed statement, so the end of the block raises 25P02."""
    with pytest.raises(PersistenceError) as caught:
        in_block(provider, store("lost"), caught_violation)
    assert caught.value.sqlstate == "25P02"
    assert not has_event(provider, "lost")


def test_savepoint_with_a_caught_database_error_is_rolled_back(provider: Provider, transaction: InTransaction) -> None:
    """The end of the nested block raises 25P02, and the caller's transaction remains usable."""
    tx = provider.using(transaction.session_or_connection)
    insert_order(transaction)
    with pytest.raises(PersistenceError) as caught:
        in_block(tx, store("lost"), caught_violation)
    assert caught.value.sqlstate == "25P02"
    tx.create_event(event(id="kept"))
    transaction.commit()
    assert provider.get_runnable_events(at(0)) == ["kept"]
