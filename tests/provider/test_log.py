"""The warnings of the logger `wfe_postgres`, which contain ids and reasons but no payloads."""

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
def captured(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log records of `wfe_postgres` from level INFO."""
    with caplog.at_level(logging.INFO, logger="wfe_postgres"):
        yield caplog


def warnings(captured: pytest.LogCaptureFixture) -> list[str]:
    """The messages of the warnings of `wfe_postgres`, in order."""
    return [it.getMessage() for it in captured.records if (it.name, it.levelno) == ("wfe_postgres", logging.WARNING)]


def test_normal_calls_log_no_warnings(provider: Provider, captured: pytest.LogCaptureFixture) -> None:
    """No warning for successful calls, including a renewed token and a processed command."""
    provider.ensure_store_exists()
    id = provider.create_event_subscription(subscription())
    assert provider.set_subscription_token(id, "token", "worker", from_now(60))
    assert provider.set_subscription_token(id, "token", "worker", from_now(90))
    provider.schedule_command(command("once"))
    assert provider.process_commands(at(1), lambda _: None) == 1
    provider.get_statistics()
    assert warnings(captured) == []


@pytest.mark.parametrize("loss", Loss)
def test_retry_after_a_lost_connection_is_logged(
    database_url: str, captured: pytest.LogCaptureFixture, loss: Loss
) -> None:
    """One warning for the retry, and one when the outcome of the write has been determined."""
    with Proxy(database_url) as proxy, Provider(proxy.url) as provider:
        provider.get_statistics()
        proxy.loss = loss
        provider.create_event(event(id="paid-1", event_data={"card": "4929-secret"}))
    retry, resolved = warnings(captured)
    assert retry.startswith("retrying in ")
    assert "'paid-1'" in retry
    assert "connection to the database was lost" in retry
    assert resolved == "the answer to a write was lost; its outcome was determined by a retry: 'paid-1'"
    assert "secret" not in captured.text


def test_replaced_expired_token_is_logged(provider: Provider, sql: Sql, captured: pytest.LogCaptureFixture) -> None:
    """The warning names the worker and the subscription, but not the token."""
    id = provider.create_event_subscription(subscription())
    assert provider.set_subscription_token(id, "dead-token", "dead", from_now(60))
    sql("UPDATE wfc.event_subscriptions SET external_token_expiry = now() - interval '1 second'")
    assert provider.set_subscription_token(id, "new-token", "alive", from_now(60))
    assert warnings(captured) == [f"worker 'alive' took over subscription '{id}', whose token had expired"]


def test_command_claimed_after_the_lease_expires_is_logged(
    database_url: str, captured: pytest.LogCaptureFixture
) -> None:
    """The first host's handler runs for longer than the lease, and a second host processes the command."""
    with Provider(database_url, command_lease=0.2) as provider:
        provider.schedule_command(command("slow"))

        def slow(_: ScheduledCommand) -> None:
            time.sleep(0.3)
            assert provider.process_commands(at(1), lambda _: None) == 1

        provider.process_commands(at(1), slow)
    [warning] = warnings(captured)
    assert warning.endswith("was taken over from a host whose lease has expired")


def test_clock_offset_is_logged(
    provider: Provider, captured: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset of five seconds is logged with its sign."""

    class FastClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=5)

    monkeypatch.setattr(queries, "datetime", FastClock)
    assert 4.5 < provider.get_statistics().clock_offset < 5.5
    [warning] = warnings(captured)
    assert re.match(r"this machine's clock is \+(4\.[5-9]|5\.[0-5]) s from the database server's", warning)


def test_unsafe_server_settings_are_logged(captured: pytest.LogCaptureFixture) -> None:
    """fsync and full_page_writes are off, and `cluster_name` does not mark the server as embedded."""
    with EmbeddedPostgres(settings={"cluster_name": "production"}) as server, Provider(server.url) as provider:
        provider.ensure_store_exists()
    assert [it.split(" = ")[0] for it in warnings(captured)] == [
        "the server has fsync",
        "the server has full_page_writes",
    ]


def test_missing_privileges_are_named_in_the_error(provider: Provider, sql: Sql) -> None:
    """The error says which privileges the role needs, and has SQLSTATE 42501."""
    sql("CREATE ROLE wfe_unprivileged")
    try:
        with provider.engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SET LOCAL ROLE wfe_unprivileged")
            with pytest.raises(PersistenceError, match="the role lacks a privilege: USAGE on the schema") as caught:
                provider.using(connection).get_statistics()
            connection.get_transaction().rollback()  # type: ignore[union-attr]
        assert caught.value.sqlstate == "42501"
    finally:
        sql("DROP ROLE wfe_unprivileged")
