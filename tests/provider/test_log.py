"""What the logger `wfe_postgres` says at night: ids and reasons, never a payload."""

import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import Sql
from tests.protocol.proxy import Loss, Proxy
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.repositories import queries
from wfe_postgres.testing.conformance.support import at, command, event, from_now, subscription

Provider = PostgresPersistenceProvider


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What our logger said in this test."""
    with caplog.at_level(logging.INFO, logger="wfe_postgres"):
        yield caplog


def warnings(said: pytest.LogCaptureFixture) -> list[str]:
    """Its warnings, in their order."""
    return [it.getMessage() for it in said.records if (it.name, it.levelno) == ("wfe_postgres", logging.WARNING)]


def test_nothing_happened(provider: Provider, said: pytest.LogCaptureFixture) -> None:
    """Nothing is said."""
    provider.ensure_store_exists()
    id = provider.create_event_subscription(subscription())
    assert provider.set_subscription_token(id, "token", "worker", from_now(60))
    assert provider.set_subscription_token(id, "token", "worker", from_now(90))
    provider.schedule_command(command("once"))
    assert provider.process_commands(at(1), lambda _: None) == 1
    provider.get_statistics()
    assert warnings(said) == []


@pytest.mark.parametrize("loss", Loss)
def test_a_lost_answer(database_url: str, said: pytest.LogCaptureFixture, loss: Loss) -> None:
    """That the call is retried, and that the outcome of the write was determined."""
    with Proxy(database_url) as proxy, Provider(proxy.url) as provider:
        provider.get_statistics()
        proxy.loss = loss
        provider.create_event(event(id="paid-1", event_data={"card": "4929-secret"}))
    again, resolved = warnings(said)
    assert again.startswith("retrying in ")
    assert "'paid-1'" in again
    assert "connection to the database was lost" in again
    assert resolved == "the answer to a write was lost; its outcome was determined by a retry: 'paid-1'"
    assert "secret" not in said.text


def test_a_token_is_taken_over(provider: Provider, sql: Sql, said: pytest.LogCaptureFixture) -> None:
    """By whom, and of what; the token itself is a secret of its holder."""
    id = provider.create_event_subscription(subscription())
    assert provider.set_subscription_token(id, "dead-token", "dead", from_now(60))
    sql("UPDATE wfc.event_subscriptions SET external_token_expiry = now() - interval '1 second'")
    assert provider.set_subscription_token(id, "new-token", "alive", from_now(60))
    assert warnings(said) == [f"worker 'alive' took over subscription '{id}', whose token had expired"]


def test_a_command_is_taken_over(database_url: str, said: pytest.LogCaptureFixture) -> None:
    """The host that had claimed it did not come to an end in its lease."""
    with Provider(database_url, command_lease=0.2) as provider:
        provider.schedule_command(command("slow"))

        def slow(_: ScheduledCommand) -> None:
            time.sleep(0.3)
            assert provider.process_commands(at(1), lambda _: None) == 1

        provider.process_commands(at(1), slow)
    [warning] = warnings(said)
    assert warning.endswith("was taken over from a host whose lease has run out")


def test_a_clock_that_is_off(
    provider: Provider, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From two seconds on, with the direction."""

    class Fast(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=5)

    monkeypatch.setattr(queries, "datetime", Fast)
    assert 4.5 < provider.get_statistics().clock_offset < 5.5
    [warning] = warnings(said)
    assert re.match(r"this machine's clock is \+(4\.[5-9]|5\.[0-5]) s from the database server's", warning)


def test_settings_with_which_a_crash_destroys(said: pytest.LogCaptureFixture) -> None:
    """A server with fsync off that does not call itself thrown away."""
    with EmbeddedPostgres(settings={"cluster_name": "production"}) as server, Provider(server.url) as provider:
        provider.ensure_store_exists()
    assert [it.split(" = ")[0] for it in warnings(said)] == [
        "the server has fsync",
        "the server has full_page_writes",
    ]


def test_a_role_without_privileges(provider: Provider, sql: Sql) -> None:
    """The error says which ones are needed."""
    sql("CREATE ROLE wfe_nobody_here")
    try:
        with provider.engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SET LOCAL ROLE wfe_nobody_here")
            with pytest.raises(PersistenceError, match="the role lacks a privilege: USAGE on the schema") as refused:
                provider.using(connection).get_statistics()
            connection.get_transaction().rollback()  # type: ignore[union-attr]
        assert refused.value.sqlstate == "42501"
    finally:
        sql("DROP ROLE wfe_nobody_here")
