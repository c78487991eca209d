"""`transaction()`: a transaction of the provider's own, or a savepoint in another one."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.provider.app import InTransaction, Order, insert_order
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, PostgresRepositories, WorkflowNotFoundError
from wfe_postgres.testing.conformance.support import at, created, event, has_event, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


def test_several_calls_in_one_transaction(provider: Provider) -> None:
    """Committed at the end of the block, and invisible before."""
    with provider.transaction() as tx:
        id = tx.create_event(event())
        tx.mark_event_processed(id)
        instance = created(tx, workflow())
        assert not has_event(provider, id)
    assert provider.get_event(id).is_processed
    assert provider.get_workflow_instance(instance.id) == instance


class OwnError(Exception):
    """The application's."""


def in_block(provider: PostgresRepositories, *calls: Call) -> None:
    """Make the calls in one block, handing each the provider inside."""
    with provider.transaction() as tx:
        for call in calls:
            call(tx)


def raiser(error: BaseException) -> Call:
    """A call that raises this."""

    def call(_: PostgresRepositories) -> None:
        raise error

    return call


def store(*ids: str) -> Call:
    """A call that stores events of these ids."""
    return lambda it: [it.create_event(event(id=id)) for id in ids]


def store_again(id: str) -> Call:
    """A call that stores an event that is there already, and hides that it failed."""

    def call(provider: PostgresRepositories) -> None:
        with pytest.raises(PersistenceError):
            provider.create_event(event(id=id))

    return call


@pytest.mark.parametrize("kind", [OwnError, KeyboardInterrupt, OSError, IntegrityError, WorkflowNotFoundError])
def test_an_exception_of_the_block(provider: Provider, kind: Any) -> None:
    """It rolls back and passes through untouched."""
    raised = kind("statement", {}, OwnError()) if kind is IntegrityError else kind("own")
    with pytest.raises(kind) as caught:
        in_block(provider, store("event-1"), raiser(raised))
    assert caught.value is raised
    assert caught.value.__cause__ is None
    assert not has_event(provider, "event-1")


@pytest.mark.parametrize("kind", [OwnError, KeyboardInterrupt, OSError, IntegrityError, WorkflowNotFoundError])
def test_an_exception_of_a_block_inside(provider: Provider, begun: InTransaction, kind: Any) -> None:
    """The same for a savepoint."""
    raised = kind("statement", {}, OwnError()) if kind is IntegrityError else kind("own")
    tx = provider.using(begun.place)
    with pytest.raises(kind) as caught:
        in_block(tx, store("event-1"), raiser(raised))
    assert caught.value is raised
    assert not has_event(tx, "event-1")
    begun.rollback()


def test_a_transaction_in_a_transaction(provider: Provider) -> None:
    """Is a savepoint: its failure takes away its own part."""
    with provider.transaction() as outer:
        outer.create_event(event(id="outer"))
        with pytest.raises(OwnError):
            in_block(outer, store("inner"), raiser(OwnError()))
        with outer.transaction() as inner:
            inner.create_event(event(id="inner again"))
            with pytest.raises(PersistenceError, match="23505"):
                in_block(inner, store("outer"))
        assert outer.get_runnable_events(at(0)) == ["inner again", "outer"]
        assert provider.get_runnable_events(at(0)) == []
    assert provider.get_runnable_events(at(0)) == ["inner again", "outer"]


def test_a_savepoint_in_a_callers_transaction(provider: Provider, begun: InTransaction, sql: Sql) -> None:
    """The same in every place; the caller's own rows before it stay."""
    tx = provider.using(begun.place)
    insert_order(begun)
    with pytest.raises(PersistenceError, match="23505"):
        in_block(tx, store("event-1", "event-1"))
    in_block(tx, store("event-2"))
    begun.commit()
    assert provider.get_runnable_events(at(0)) == ["event-2"]
    assert sql("SELECT id FROM public.orders") == [("order-1",)]


def test_a_savepoint_flushes_before_it_begins(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """What the application added before the block is not taken away with the block."""
    with Session(app_engine) as session:
        session.add(Order(id="before"))
        with pytest.raises(OwnError):
            in_block(provider.using(session), store("event-1"), raiser(OwnError()))
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("before",)]
    assert not has_event(provider, "event-1")


def test_what_a_savepoint_took_away_is_forgotten(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """The session knows of the savepoint: what was added inside can be added again."""
    order = Order(id="inside")
    with Session(app_engine) as session:
        with pytest.raises(OwnError):
            in_block(
                provider.using(session),
                lambda _: session.add(order),
                store("event-1"),
                raiser(OwnError()),
            )
        assert session.get(Order, "inside") is None
        session.add(Order(id="inside"))
        session.commit()
    assert sql("SELECT id FROM public.orders") == [("inside",)]


def test_what_fails_in_a_savepoints_flush(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """Is the application's own, before the block and at its end."""
    sql("INSERT INTO public.orders VALUES ('order-1')")
    with Session(app_engine) as session:
        session.add(Order(id="order-1"))
        with pytest.raises(IntegrityError):
            in_block(provider.using(session))
        session.rollback()
        with pytest.raises(IntegrityError):
            in_block(provider.using(session), lambda _: session.add(Order(id="order-1")))
        session.rollback()


def test_a_failure_that_the_block_hid(provider: Provider) -> None:
    """A transaction in which a statement failed cannot be committed: the block does not end as if it had been."""
    provider.create_event(event(id="there"))
    with pytest.raises(PersistenceError) as caught:
        in_block(provider, store("lost"), store_again("there"))
    assert caught.value.sqlstate == "25P02"
    assert not has_event(provider, "lost")


def test_a_failure_that_a_savepoint_hid(provider: Provider, begun: InTransaction) -> None:
    """The same for a block inside a caller's transaction, which is usable after it."""
    tx = provider.using(begun.place)
    insert_order(begun)
    with pytest.raises(PersistenceError) as caught:
        in_block(tx, store("lost"), store_again("lost"))
    assert caught.value.sqlstate == "25P02"
    tx.create_event(event(id="kept"))
    begun.commit()
    assert provider.get_runnable_events(at(0)) == ["kept"]
