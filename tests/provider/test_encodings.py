"""Databases and connections whose encoding is not UTF-8: a typed error without a value, on every way in."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

from tests.conftest import Sql
from tests.provider.canaries import CANARY, shown
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.repositories.events import PostgresEventRepository
from wfe_postgres.schema import check, store
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

ENCODINGS = ["LATIN1", "EUC_JP", "SQL_ASCII"]
TEXT = f"{CANARY} \N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}"
DATABASE = "CREATE DATABASE {} ENCODING '{}' LOCALE 'C' TEMPLATE template0"


@contextmanager
def database_in(server: str, encoding: str) -> Iterator[str]:
    """The URL of an empty database in this encoding."""
    name = f"wfe_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(DATABASE.format(name, encoding).encode())
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=ENCODINGS)
def other_url(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database in another encoding."""
    with database_in(server, request.param) as url:
        yield url


def engine_on(url: str, **arguments: str) -> Engine:
    """An engine of an application's."""
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), connect_args=arguments)


def test_new_store_in_another_encoding_is_refused(other_url: str) -> None:
    with Provider(other_url) as provider:
        for create in (provider.ensure_store_exists, lambda: store.upgrade(provider.engine)):
            with pytest.raises(StoreNotReadyError, match="a store needs UTF8"):
                create()
    with psycopg.connect(other_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'wfc'").fetchone() == (0,)


def test_existing_store_in_another_encoding_is_reported_and_works_for_ascii(
    other_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be in use: the other texts are refused by the server, without a value in the error."""
    with monkeypatch.context() as patch, Provider(other_url) as provider:
        patch.setattr(store, "_require_utf8", lambda *_, **__: None)
        provider.ensure_store_exists()
    with Provider(other_url) as provider:
        provider.ensure_store_exists()
        assert "lacks characters" in caplog.text
        assert [it.partition(" is ")[0] for it in check(provider.engine)] == ["encoding of the database"]
        assert provider.get_event(provider.create_event(published(event_data="plain"))).event_data == "plain"
        if "SQL_ASCII" in str(check(provider.engine)):
            return  # it stores all bytes as they come
        for values in ({"event_data": TEXT}, {"event_key": TEXT}, {"event_data": {TEXT: 1}}):
            with pytest.raises(PersistenceError, match="UTF8 is needed") as caught:
                provider.create_event(published(**values))
            assert caught.value.sqlstate == "22P05"
            assert CANARY not in shown(caught.value)


@contextmanager
def on_engine(engine: Engine) -> Iterator[Any]:
    """A provider on the application's engine."""
    yield Provider.from_engine(engine)


@contextmanager
def in_transaction(engine: Engine) -> Iterator[Any]:
    """A provider's own transaction."""
    with Provider.from_engine(engine).transaction() as tx:
        yield tx


@contextmanager
def in_session(engine: Engine) -> Iterator[Any]:
    """A session of the application's."""
    with Session(engine) as session:
        yield Provider.from_engine(engine).using(session)


@contextmanager
def in_connection(engine: Engine) -> Iterator[Any]:
    """A connection of the application's."""
    with engine.connect() as connection:
        yield Provider.from_engine(engine).using(connection)


@contextmanager
def in_driver_connection(engine: Engine) -> Iterator[Any]:
    """A psycopg connection of the application's."""
    with engine.connect() as connection:
        yield Provider.from_engine(engine).using(connection.connection.driver_connection)  # type: ignore[arg-type]


@contextmanager
def on_sessionmaker(engine: Engine) -> Iterator[Any]:
    """A repository on a sessionmaker."""
    yield PostgresEventRepository(sessionmaker(engine))


CALLS: list[Callable[[Any], object]] = [
    lambda it: it.create_event(published(event_data=TEXT)),
    lambda it: it.create_event(published(event_key=TEXT)),
    lambda it: it.get_event(TEXT),
    lambda it: it.get_runnable_events(at(0)),
]
WAYS = [on_engine, in_transaction, in_session, in_connection, in_driver_connection, on_sessionmaker]


# SQLAlchemy drops the connection at which its first connect fails, and older versions of psycopg warn of that.
@pytest.mark.filterwarnings("ignore:connection .* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii", "euc_jp"])
@pytest.mark.parametrize("by_listener", [False, True])
def test_call_on_a_connection_in_another_encoding_is_refused_before_it_is_sent(
    database_url: str, sql: Sql, way: Callable[[Engine], Any], encoding: str, by_listener: bool
) -> None:
    if encoding == "sql_ascii" and not by_listener and way in (in_connection, in_driver_connection):
        pytest.skip("SQLAlchemy cannot make a first connection in SQL_ASCII")
    engine = engine_on(database_url, **({} if by_listener else {"client_encoding": encoding}))
    if by_listener:
        event.listen(engine, "checkout", lambda it, *_: it.execute(f"SET client_encoding = {encoding}"))
    for call in CALLS:
        with pytest.raises(PersistenceError, match="and UTF8 is needed") as caught, way(engine) as it:
            call(it)
        assert CANARY not in shown(caught.value)
        assert not caught.value.retryable
    with pytest.raises(PersistenceError, match="and UTF8 is needed"):
        Provider.from_engine(engine).ensure_store_exists()
    engine.dispose()
    gc.collect()
    assert sql("SELECT count(*) FROM wfc.events") == [(0,)]


def test_warning_is_not_logged_for_a_database_in_utf8(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Provider(database_url) as provider:
        provider.ensure_store_exists()
        assert check(provider.engine) == []
    assert "UTF8" not in caplog.text
