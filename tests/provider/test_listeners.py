"""Listeners of an application's engine that run statements on a connection before the provider gets it."""

import select
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.connections.pools import driver_connection
from wfe_postgres.repositories.events import PostgresEventRepository
from wfe_postgres.schema import check
from wfe_postgres.testing.conformance.support import created, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

SETTINGS = {
    "of the session": "SET app.tenant = 'acme'",
    "of the transaction": "SELECT set_config('app.tenant', 'acme', true)",
}
EVENTS = ("connect", "checkout", "engine_connect")
TENANT = """
CREATE OR REPLACE FUNCTION public.tell_tenant() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.event_key := coalesce(current_setting('app.tenant', true), 'none'); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER tell_tenant BEFORE INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION public.tell_tenant()
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine of the application's."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), pool_size=2)
    yield engine
    engine.dispose()


def execute_at(target: Any, name: str, statement: str) -> None:
    """Let a listener of this event run a statement, without a commit."""

    @event.listens_for(target, name)
    def execute(*arguments: Any) -> None:
        connection = arguments[-1] if name == "after_begin" else arguments[0]
        getattr(connection, "exec_driver_sql", connection.execute)(statement)


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_transaction_that_a_listener_began_is_used_and_keeps_its_settings(
    engine: Engine, sql: Sql, name: str, setting: str, request: pytest.FixtureRequest
) -> None:
    """The listener does not commit; its settings hold for the first call, and at each checkout for each call."""
    sql(TENANT)
    request.addfinalizer(lambda: sql("DROP FUNCTION public.tell_tenant CASCADE"))

    execute_at(engine, name, setting)
    provider = Provider.from_engine(engine)
    id = provider.create_event(published(event_key="own"))
    assert provider.get_event(id).event_key == "acme"
    with provider.transaction() as tx:
        instance = created(tx, workflow())
    instance.data = "saved"
    provider.persist_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    assert sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'") == [(0,)]


# Older versions of SQLAlchemy warn the application of its listener.
@pytest.mark.filterwarnings("ignore:The engine provided as bind produced a connection:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("name", [*EVENTS, "after_begin"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_sessionmaker_calls_use_the_transaction_that_a_listener_began(
    engine: Engine, sql: Sql, name: str, setting: str, request: pytest.FixtureRequest
) -> None:
    """A listener of the engine's or of the session's."""
    sql(TENANT)
    request.addfinalizer(lambda: sql("DROP FUNCTION public.tell_tenant CASCADE"))
    make = sessionmaker(engine)
    execute_at(make if name == "after_begin" else engine, name, setting)
    events = PostgresEventRepository(make)
    id = events.create_event(published(event_key="own"))
    assert events.get_event(id).event_key == "acme"
    events.mark_event_processed(id)
    assert sql("SELECT is_processed FROM wfc.events") == [(True,)]
    assert sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'") == [(0,)]


@pytest.mark.parametrize("name", EVENTS)
def test_store_is_created_and_checked_where_a_listener_began_a_transaction(empty_database_url: str, name: str) -> None:
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"), pool_size=2)
    execute_at(engine, name, SETTINGS["of the session"])
    provider = Provider.from_engine(engine)
    for _ in range(2):
        provider.ensure_store_exists()
    assert check(engine) == []
    assert provider.get_event(provider.create_event(published())).event_name == "paid"
    engine.dispose()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
@pytest.mark.parametrize("name", EVENTS)
def test_isolation_level_of_the_engine_is_kept_beside_a_listener(database_url: str, level: Any, name: str) -> None:
    """The calls of the provider take place in the listener's transaction, or in READ COMMITTED."""
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level=level)
    execute_at(engine, name, SETTINGS["of the session"])
    provider = Provider.from_engine(engine)
    with provider.transaction() as tx:
        id = tx.create_event(published())
    assert provider.get_event(id).id == id
    with engine.connect() as connection:
        driver = driver_connection(connection)
        level_of_driver = driver.isolation_level and driver.isolation_level.name
        assert (driver.autocommit, level_of_driver) == ((True, None) if level == "AUTOCOMMIT" else (False, level))
    engine.dispose()


def test_calls_work_where_select_poll_was_removed(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As eventlet does."""
    monkeypatch.delattr(select, "poll")
    for _ in range(2):
        id = provider.create_event(published())
        assert provider.get_event(id).id == id


def test_closed_connections_are_noticed_where_select_poll_was_removed(
    provider: Provider, sql: Sql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(select, "poll")
    provider.get_runnable_events(published().event_time)
    sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'wfe_postgres'")
    provider.create_event(published())
    assert "retrying" not in caplog.text
