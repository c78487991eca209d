"""Sessions with several binds, and sessions registered with the `transaction` package through zope.sqlalchemy."""

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
def other_engine(server: str, template: str) -> Iterator[Engine]:
    """An engine of another database, which has a store and the application's table."""
    with migrated_database(server, template) as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text(MAKE_ORDERS))
        yield engine
        engine.dispose()


def test_session_bind_of_the_store_is_used(provider: Provider, app_engine: Engine, other_engine: Engine) -> None:
    """The bind of the store's Base is used, and the application's rows use the default bind."""
    with Session(other_engine, binds={Base: app_engine}) as session:
        session.add(Order(id="order-1"))
        tx = provider.using(session)
        tx.create_event(event(id="event-1"))
        with tx.transaction() as inner:
            inner.create_event(event(id="event-2"))
        session.commit()
        assert session.get(Order, "order-1") is not None
    assert provider.get_runnable_events(at(0)) == ["event-1", "event-2"]
    assert not has_event(Provider.from_engine(other_engine), "event-1")


def test_repository_uses_the_bind_of_the_store(provider: Provider, app_engine: Engine, other_engine: Engine) -> None:
    """With a session, and with a sessionmaker."""
    make = sessionmaker(binds={AppBase: other_engine, Base: app_engine})
    with make() as session:
        PostgresEventRepository(session).create_event(event(id="by a session"))
        session.commit()
    PostgresEventRepository(make).create_event(event(id="by a sessionmaker"))
    assert has_event(provider, "by a session")
    assert has_event(provider, "by a sessionmaker")


@pytest.fixture
def zope_sessions(app_engine: Engine) -> Iterator[scoped_session[Session]]:
    """Sessions that are committed by the transaction manager of Pyramid and Zope."""
    sessions = scoped_session(sessionmaker(app_engine))
    zope.sqlalchemy.register(sessions)
    yield sessions
    transaction.abort()
    sessions.remove()


def test_provider_write_marks_the_zope_session_as_changed(
    provider: Provider, zope_sessions: scoped_session[Session]
) -> None:
    """The manager rolls back unchanged sessions, so a call that writes has to mark the session as changed."""
    provider.using(zope_sessions).create_event(event(id="event-1"))
    transaction.commit()
    assert has_event(provider, "event-1")


def test_provider_write_in_a_savepoint_marks_the_zope_session_as_changed(
    provider: Provider, zope_sessions: scoped_session[Session]
) -> None:
    """The same for a write in a `transaction()` block."""
    with provider.using(zope_sessions).transaction() as tx:
        tx.create_event(event(id="event-1"))
    transaction.commit()
    assert has_event(provider, "event-1")


def test_provider_read_does_not_mark_the_zope_session_as_changed(
    provider: Provider, zope_sessions: scoped_session[Session], app_engine: Engine
) -> None:
    """The manager rolls back, which the test detects by a raw SQL insert that does not mark the session."""
    id = created(provider, workflow()).id
    zope_sessions.connection().execute(text("INSERT INTO public.orders VALUES ('unseen')"))
    assert provider.using(zope_sessions).get_workflow_instance(id).id == id
    transaction.commit()
    with Session(app_engine) as session:
        assert session.get(Order, "unseen") is None
