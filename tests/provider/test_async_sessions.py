"""`using()` inside `run_sync()` of SQLAlchemy's asyncio extension, on psycopg's asynchronous connections."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from tests.provider.app import MAKE_ORDERS, Order
from wfe_postgres import ConcurrencyError, PostgresEventRepository, PostgresPersistenceProvider, WorkflowExistsError
from wfe_postgres.testing.conformance.support import at, created, event, workflow

Provider = PostgresPersistenceProvider


def with_engine(url: str, use: Callable[[AsyncEngine], Awaitable[None]]) -> None:
    """Run the coroutine function with an asynchronous engine on the database, which has the application's table."""

    async def main() -> None:
        engine = create_async_engine(make_url(url).set(drivername="postgresql+psycopg"))
        try:
            async with engine.begin() as connection:
                await connection.execute(text(MAKE_ORDERS))
            await use(engine)
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_async_session_commits_and_rolls_back_rows_and_workflows_together(
    provider: Provider, database_url: str
) -> None:
    def place_order(session: Session, id: str) -> None:
        session.add(Order(id=id))
        tx = provider.using(session)
        with tx.transaction() as inner:
            inner.create_new_workflow(workflow(id=id))
        assert tx.get_workflow_instance(id).id == id

    async def place(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(place_order, "committed")
        async with AsyncSession(engine) as session:
            await session.run_sync(place_order, "rolled back")
        async with AsyncSession(engine) as session:
            assert (await session.scalars(select(Order.id))).all() == ["committed"]

    with_engine(database_url, place)
    assert [item.id for item in provider.find_workflows().items] == ["committed"]


def test_async_connection_commits_an_event(provider: Provider, database_url: str) -> None:
    def publish(connection: Connection) -> None:
        provider.using(connection).create_event(event(id="event-1"))

    async def use(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(publish)

    with_engine(database_url, use)
    assert provider.get_runnable_events(at(0)) == ["event-1"]


def test_async_transaction_is_usable_after_an_error_of_the_contract(provider: Provider, database_url: str) -> None:
    stale = created(provider, workflow(id="taken"))
    provider.persist_workflow(provider.get_workflow_instance("taken"))

    def try_and_publish(session: Session) -> None:
        tx = provider.using(session)
        with pytest.raises(WorkflowExistsError):
            tx.create_new_workflow(workflow(id="taken"))
        with pytest.raises(ConcurrencyError):
            tx.persist_workflow(stale)
        tx.create_event(event(id="event-1"))

    async def use(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(try_and_publish)

    with_engine(database_url, use)
    assert provider.get_runnable_events(at(0)) == ["event-1"]


def test_asynchronous_object_is_refused_outside_run_sync(provider: Provider, database_url: str) -> None:
    async def use(engine: AsyncEngine) -> None:
        anything: Any = engine
        with pytest.raises(ValueError, match="not AsyncEngine"):
            Provider.from_engine(anything)
        with pytest.raises(ValueError, match="not an asynchronous engine"):
            Provider.from_engine(engine.sync_engine)
        with pytest.raises(ValueError, match="not an asynchronous engine"):
            PostgresEventRepository(sessionmaker(engine.sync_engine)).create_event(event())
        async with AsyncSession(engine) as session, engine.connect() as connection:
            for each in session, connection:
                anything = each
                with pytest.raises(ValueError, match=f"not {type(each).__name__}"):
                    provider.using(anything)

    with_engine(database_url, use)
