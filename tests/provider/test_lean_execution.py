"""Calls that leave out SQLAlchemy's execution when nobody listens to it, and their use of the pool."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, Pool, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.events import ConnectionEvents, DialectEvents
from sqlalchemy.pool import NullPool, QueuePool, StaticPool
from sqlalchemy.pool.events import PoolEvents

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider
MakeEngine = Callable[..., Engine]

pytestmark = pytest.mark.usefixtures("no_listener_of_another_test")

NAMES = [
    (events, name)
    for events in (ConnectionEvents, DialectEvents, PoolEvents)
    for name in sorted(vars(events))
    if not name.startswith("_") and name not in ("dispatch", "connect", "first_connect", "do_connect")
]
"""All but those of making a connection, which is always left to SQLAlchemy."""


def calls(engine: Engine) -> None:
    """A read, a write, and a read that finds nothing."""
    provider = Provider.from_engine(engine)
    provider.get_event(provider.create_event(published()))
    provider.get_runnable_events(published().event_time)


def ordinary(engine: Engine) -> None:
    """Let SQLAlchemy run all statements of the engine."""
    engine.dialect.__class__ = CountingDialect


@contextmanager
def counted(target: Any, name: str) -> Iterator[list[str]]:
    """How often the event of this name happened."""
    happened: list[str] = []

    def listen(*_: Any, **__: Any) -> None:
        happened.append(name)

    event.listen(target, name, listen)
    yield happened
    event.remove(target, name, listen)


def targets(engine: Engine, events: type) -> list[Any]:
    """What an application can listen at."""
    if events is PoolEvents:
        return [engine, engine.pool, QueuePool, Pool]
    option_engine = [engine.execution_options(logging_token="x")] if events is ConnectionEvents else []
    return [engine, Engine, *option_engine]


@pytest.fixture
def without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make every use of SQLAlchemy's connections fail from now on."""

    def refuse(*_: Any) -> None:
        raise AssertionError("SQLAlchemy was asked for a connection")

    return lambda: monkeypatch.setattr(Engine, "connect", refuse)


@pytest.mark.parametrize(
    "options",
    [{}, {"pool_recycle": 3600}, {"isolation_level": "SERIALIZABLE"}, {"pool_use_lifo": True}],
    ids=str,
)
def test_sqlalchemy_is_left_out_when_nobody_listens(
    make_engine: MakeEngine, without_sqlalchemy: Callable[[], None], options: dict[str, Any]
) -> None:
    """Once a connection is in the pool."""
    engine = make_engine(**options)
    calls(engine)
    without_sqlalchemy()
    calls(engine)


@pytest.mark.parametrize(("events", "name"), NAMES, ids=[f"{events.__name__}.{name}" for events, name in NAMES])
def test_each_event_happens_as_often_as_with_sqlalchemy(make_engine: MakeEngine, events: type, name: str) -> None:
    for index in range(len(targets(make_engine(), events))):
        found: list[int] = []
        for prepare in (ordinary, lambda _: None):
            engine = make_engine()
            calls(engine)
            prepare(engine)
            target = targets(engine, events)[index]
            heard = target if isinstance(target, Engine) and target is not engine else engine
            with counted(target, name) as happened:
                calls(heard)
                calls(heard)
            found.append(len(happened))
        assert found[0] == found[1]


def test_events_that_happen_are_among_those_compared(make_engine: MakeEngine) -> None:
    """So that the test above compares more than zero with zero."""
    happened: set[str] = set()
    for _, name in NAMES:
        engine = make_engine()
        calls(engine)
        with counted(engine, name) as found:
            calls(engine)
        happened.update(found)
    assert happened >= {"before_cursor_execute", "after_cursor_execute", "engine_connect", "do_execute"}
    assert happened >= {"checkout", "checkin", "reset"}


LOGGERS = {
    "sqlalchemy.engine.Engine": (logging.INFO, "INSERT INTO"),
    "sqlalchemy.pool.impl.QueuePool": (logging.DEBUG, "checked out"),
}


@pytest.mark.parametrize("name", LOGGERS)
def test_log_shows_each_call(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """At a level that is set after the engine was made."""
    level, text = LOGGERS[name]
    engine = make_engine()
    calls(engine)
    with caplog.at_level(level, name):
        calls(engine)
    assert any(text in record.getMessage() for record in caplog.records)


def test_echo_that_is_set_later_shows_statements(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    calls(engine)
    engine.echo = True
    calls(engine)
    engine.echo = False
    assert "INSERT INTO" in caplog.text


class CountingCursor(psycopg.Cursor[Any]):
    """As an instrumentation of psycopg's has it."""

    executed = 0

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        type(self).executed += 1
        return super().execute(*args, **kwargs)


class CountingConnection(psycopg.Connection[Any]):
    """As an instrumentation of psycopg's has it."""

    cursors = 0

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        type(self).cursors += 1
        return super().cursor(*args, **kwargs)


class CountingDialect(PGDialect_psycopg):
    """As an extension of SQLAlchemy's has it."""

    executed = 0

    def do_execute(self, *args: Any, **kwargs: Any) -> None:
        type(self).executed += 1
        super().do_execute(*args, **kwargs)  # type: ignore[no-untyped-call]


def test_replaced_cursors_connections_and_dialects_see_each_statement(
    make_engine: MakeEngine, database_url: str
) -> None:
    plain = database_url.replace("postgresql+psycopg", "postgresql")
    by_connection = make_engine(creator=lambda: CountingConnection.connect(plain))
    by_cursor = make_engine(connect_args={"cursor_factory": CountingCursor})
    by_dialect = make_engine()
    by_dialect.dialect.__class__ = CountingDialect
    for engine in (by_connection, by_cursor, by_dialect):
        calls(engine)
    before = CountingCursor.executed, CountingConnection.cursors, CountingDialect.executed
    for engine in (by_connection, by_cursor, by_dialect):
        calls(engine)
    after = CountingCursor.executed, CountingConnection.cursors, CountingDialect.executed
    assert all(late - early >= 3 for early, late in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("options", "connections"),
    [
        ({"poolclass": NullPool}, 6),
        ({"poolclass": StaticPool}, 1),
        ({"pool_recycle": 0}, 7),  # SQLAlchemy replaces the first one, too
    ],
)
def test_pools_and_their_options_decide_on_new_connections(
    make_engine: MakeEngine, options: dict[str, Any], connections: int
) -> None:
    engine = make_engine(**options)
    with counted(engine, "connect") as connected:
        calls(engine)
        calls(engine)
    assert len(connected) == connections


def test_connections_are_tested_with_pool_pre_ping(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pings: list[bool] = []
    ping: Any = PGDialect_psycopg.do_ping

    def count(*args: Any) -> Any:
        pings.append(True)
        return ping(*args)

    monkeypatch.setattr(PGDialect_psycopg, "do_ping", count)
    engine = make_engine(pool_pre_ping=True)
    calls(engine)
    calls(engine)
    assert len(pings) >= 5


def test_pool_counts_are_right_during_and_after_calls(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1, max_overflow=0, pool_timeout=5)
    calls(engine)
    during: list[int] = []
    adapted = psycopg.Connection.wait

    def watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        during.append(engine.pool.checkedout())  # type: ignore[attr-defined]
        return adapted(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "wait", watch)
        calls(engine)
    assert set(during) == {1}
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    with engine.connect() as connection:
        assert not connection.connection.driver_connection.autocommit  # type: ignore[union-attr]


def test_other_connections_of_the_pool_are_replaced_when_one_is_lost(make_engine: MakeEngine, sql: Sql) -> None:
    """As SQLAlchemy does it, so that after a failover no call waits for a server that is gone."""
    engine = make_engine(pool_size=2)
    with engine.connect(), engine.connect():
        pass
    sql(
        "CREATE FUNCTION public.end_session() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER end_session BEFORE INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION public.end_session()")
    provider = Provider.from_engine(engine, retry_budget=0)
    with pytest.raises(Exception, match="lost"):
        provider.create_event(published())
    sql("DROP FUNCTION public.end_session CASCADE")
    with counted(engine, "connect") as connected, engine.connect(), engine.connect():
        pass
    assert len(connected) == 2
