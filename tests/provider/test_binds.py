"""Sessions with several binds, and sessions that a transaction manager of the application's watches."""

from collections.abc import Iterator

import pytest
import transaction
import zope.sqlalchemy
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.provider.app import MAKE_ORDERS, AppBase, Order
from tests.provider.databases import migrated_database
from wfe_postgres import PostgresEventRepository, PostgresPersistenceProvider
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import at, created, event, has_event, workflow

Provider = PostgresPersistenceProvider


@pytest.fixture
def elsewhere(server: str, template: str) -> Iterator[Engine]:
    """Another database, with a store and with the application's table."""
    with migrated_database(server, template) as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text(MAKE_ORDERS))
        yield engine
        engine.dispose()


def test_the_bind_of_the_store_is_used(provider: Provider, app_engine: Engine, elsewhere: Engine) -> None:
    """Not the session's default: that is where the application's own rows go."""
    with Session(elsewhere, binds={Base: app_engine}) as session:
        session.add(Order(id="order-1"))
        tx = provider.using(session)
        tx.create_event(event(id="event-1"))
        with tx.transaction() as inner:
            inner.create_event(event(id="event-2"))
        session.commit()
        assert session.get(Order, "order-1") is not None
    assert provider.get_runnable_events(at(0)) == ["event-1", "event-2"]
    assert not has_event(Provider.from_engine(elsewhere), "event-1")


def test_a_repository_follows_the_binds(provider: Provider, app_engine: Engine, elsewhere: Engine) -> None:
    """With a session, and with a maker of sessions."""
    make = sessionmaker(binds={AppBase: elsewhere, Base: app_engine})
    with make() as session:
        PostgresEventRepository(session).create_event(event(id="by a session"))
        session.commit()
    PostgresEventRepository(make).create_event(event(id="by a maker"))
    assert has_event(provider, "by a session")
    assert has_event(provider, "by a maker")


@pytest.fixture
def watched(app_engine: Engine) -> Iterator[scoped_session[Session]]:
    """Sessions that the transaction manager of Pyramid and Zope commits."""
    sessions = scoped_session(sessionmaker(app_engine))
    zope.sqlalchemy.register(sessions)
    yield sessions
    transaction.abort()
    sessions.remove()


def test_a_lone_write_is_committed_by_zopes_manager(provider: Provider, watched: scoped_session[Session]) -> None:
    """It rolls back what it takes for reading only; a call that wrote tells it."""
    provider.using(watched).create_event(event(id="event-1"))
    transaction.commit()
    assert has_event(provider, "event-1")


def test_a_lone_write_in_a_savepoint_is_committed_too(provider: Provider, watched: scoped_session[Session]) -> None:
    """The same inside a nested block."""
    with provider.using(watched).transaction() as tx:
        tx.create_event(event(id="event-1"))
    transaction.commit()
    assert has_event(provider, "event-1")


def test_a_read_does_not_pretend_to_have_written(
    provider: Provider, watched: scoped_session[Session], app_engine: Engine
) -> None:
    """The manager still rolls back what only reads: here with a write of the application's that it cannot see."""
    id = created(provider, workflow()).id
    watched.connection().execute(text("INSERT INTO public.orders VALUES ('unseen')"))
    assert provider.using(watched).get_workflow_instance(id).id == id
    transaction.commit()
    with Session(app_engine) as session:
        assert session.get(Order, "unseen") is None
