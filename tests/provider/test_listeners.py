"""Listeners of an application's engine that run statements on a connection before the provider gets it."""

import select
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, make_url

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import created, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

SETTINGS = {
    "of the session": "SET app.tenant = 'acme'",
    "of the transaction": "SELECT set_config('app.tenant', 'acme', true)",
}
EVENTS = ("connect", "checkout")
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


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_transaction_that_a_listener_began_is_used_and_keeps_its_settings(
    engine: Engine, sql: Sql, name: str, setting: str, request: pytest.FixtureRequest
) -> None:
    """The listener does not commit; its settings hold for the first call, and at each checkout for each call."""
    sql(TENANT)
    request.addfinalizer(lambda: sql("DROP FUNCTION public.tell_tenant CASCADE"))

    @event.listens_for(engine, name)
    def set_tenant(connection: Any, *_: object) -> None:
        connection.execute(setting)

    provider = Provider.from_engine(engine)
    id = provider.create_event(published(event_key="own"))
    assert provider.get_event(id).event_key == "acme"
    with provider.transaction() as tx:
        instance = created(tx, workflow())
    instance.data = "saved"
    provider.persist_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    assert sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'") == [(0,)]


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
