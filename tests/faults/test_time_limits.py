"""Time limits: retry budget and call timeout in special cases, and timeouts of the server."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from freezegun import freeze_time
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import QueuePool, StaticPool

from tests.conftest import Sql
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.proxy import PASS, Refuse, Silence, TcpProxy
from wfe_postgres import OutcomeUnknownError, PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, event, has_event

Provider = PostgresPersistenceProvider


EngineAndConnection = tuple[Engine, psycopg.Connection[Any]]


@pytest.fixture(params=[QueuePool, StaticPool], ids=lambda it: it.__name__)
def one_connection(
    request: pytest.FixtureRequest, database_url: str
) -> Iterator[tuple[Engine, psycopg.Connection[Any]]]:
    """An engine whose `creator` always returns the same connection, and that connection."""
    connection = psycopg.connect(database_url)
    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=request.param)
    yield engine, connection
    engine.dispose()
    connection.close()


def test_call_raises_within_the_retry_budget_when_the_only_connection_is_terminated(
    one_connection: EngineAndConnection, sql: Sql
) -> None:
    """The error says that the call had no effect."""
    engine, connection = one_connection
    provider = Provider.from_engine(engine, retry_budget=0.5)
    provider.create_event(event(id="before"))
    sql("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(PersistenceError) as caught:
        provider.create_event(event(id="never"))
    assert time.monotonic() - began < 2
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert caught.value.retryable
    assert sql("SELECT id FROM wfc.events") == [("before",)]


def test_call_succeeds_without_retries_when_all_pooled_connections_are_terminated(database_url: str, sql: Sql) -> None:
    """Terminated connections are discarded at checkout, which does not count as a retry."""
    with Provider(database_url, retry_budget=0) as provider:
        connections = [provider.engine.connect() for _ in range(10)]
        for connection in connections:
            connection.close()
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'wfe_postgres'"
            " AND datname = current_database()"
        )
        time.sleep(0.1)
        provider.create_event(event(id="event-1"))
        assert has_event(provider, "event-1")


def test_retry_budget_is_enforced_when_the_clock_is_frozen(database_url: str) -> None:
    """`freeze_time` stops the clocks of Python."""
    with TcpProxy(database_url) as proxy, Provider(proxy.url, retry_budget=0.5, pool_size=1) as provider:
        provider.get_statistics()
        proxy.fault = Refuse()
        proxy.cut()
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        with freeze_time("2026-01-01"), pytest.raises(PersistenceError):
            provider.create_event(event())
        assert time.clock_gettime(time.CLOCK_MONOTONIC) - began < 3


def test_call_timeout_is_enforced_when_the_clock_is_frozen(database_url: str) -> None:
    """`freeze_time` stops the clocks of Python."""
    with TcpProxy(database_url) as proxy, Provider(proxy.url, call_timeout=1.0, pool_size=1) as provider:
        provider.get_statistics()
        proxy.fault = Silence()
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        with freeze_time("2026-01-01"), pytest.raises(OutcomeUnknownError):
            provider.create_event(event())
        assert time.clock_gettime(time.CLOCK_MONOTONIC) - began < 3
        proxy.fault = PASS
        provider.get_statistics()


def idle(provider: Provider) -> None:
    """A transaction that is idle until the server ends the session; COMMIT fails."""
    with provider.transaction() as tx:
        tx.create_event(event(id="event-1"))
        time.sleep(0.4)


def idle_before_a_call(provider: Provider) -> None:
    """A transaction that is idle until the server ends the session; the next call fails."""
    with provider.transaction() as tx:
        tx.create_event(event(id="event-1"))
        time.sleep(0.4)
        tx.create_event(event(id="event-2"))


TIMEOUTS = {"25P03": "idle_in_transaction_session_timeout", "25P04": "transaction_timeout"}


@pytest.mark.skipif(psycopg.__version__ == "3.2.3", reason="psycopg 3.2.3 does not pass on why the session ended")
@pytest.mark.parametrize("block", [idle, idle_before_a_call])
@pytest.mark.parametrize("sqlstate", TIMEOUTS)
def test_transaction_raises_retryable_error_when_a_server_timeout_ends_it(
    cluster: Cluster, database: str, sqlstate: str, block: Callable[[Provider], None]
) -> None:
    """The transaction was rolled back, so the outcome is not unknown."""
    if not cluster.sql("SELECT name FROM pg_settings WHERE name = %s", TIMEOUTS[sqlstate]):
        pytest.skip(f"this server has no {TIMEOUTS[sqlstate]}")
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET {TIMEOUTS[sqlstate]} = '150ms'")
    with Provider(database) as provider:
        with pytest.raises(PersistenceError) as caught:
            block(provider)
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert caught.value.sqlstate == sqlstate
        assert caught.value.retryable
        assert provider.get_runnable_events(at(0)) == []


def test_error_names_the_deadline_when_a_call_times_out(database_url: str) -> None:
    """The message differs from that of a cancellation by an administrator, "the database refused the statement"."""
    with Provider(database_url, call_timeout=0.5) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="event-1"))
        other.execute("LOCK TABLE wfc.events")
        with pytest.raises(PersistenceError, match="reached its deadline") as caught:
            provider.mark_event_processed("event-1")
        assert caught.value.sqlstate == "57014"
        assert caught.value.retryable
        with pytest.raises(PersistenceError, match="reached its deadline"), provider.transaction() as tx:
            tx.mark_event_processed("event-1")
        other.rollback()


def test_transaction_continues_when_a_call_in_a_savepoint_times_out(database_url: str) -> None:
    """Later calls and the COMMIT succeed."""
    with Provider(database_url, call_timeout=1.5) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="locked"))
        other.execute("SELECT FROM wfc.events FOR UPDATE")
        with provider.transaction() as tx:
            for _ in range(2):
                with pytest.raises(PersistenceError, match="reached its deadline"), tx.transaction() as inner:
                    inner.mark_event_processed("locked")
            tx.create_event(event(id="after"))
        other.rollback()
        assert has_event(provider, "after")


def test_connection_is_not_reused_when_its_call_was_cancelled(database_url: str, sql: Sql) -> None:
    """A late cancellation could otherwise hit the next call."""
    with Provider(database_url, call_timeout=0.5, pool_size=1) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="event-1"))
        [(before,)] = sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'wfe_postgres' AND datname = current_database()"
        )
        other.execute("LOCK TABLE wfc.events")
        with pytest.raises(PersistenceError):
            provider.mark_event_processed("event-1")
        other.rollback()
        provider.mark_event_processed("event-1")
        [(after,)] = sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'wfe_postgres' AND datname = current_database()"
        )
        assert after != before


def test_provider_rejects_engine_options_that_prevent_call_timeouts(database_url: str) -> None:
    """An application that creates the connections itself must pass `call_timeout=None`."""
    for option in ("creator", "pool", "module"):
        with pytest.raises(ValueError, match="call_timeout=None"):
            Provider(database_url, **{option: None})  # type: ignore[arg-type]
    with Provider(database_url, call_timeout=None, creator=lambda: psycopg.connect(database_url)) as provider:
        provider.create_event(event(id="event-1"))
        assert has_event(provider, "event-1")


def test_direct_use_of_the_engine_has_no_call_timeout(database_url: str) -> None:
    """Neither the timeout of connecting nor that of an earlier call applies."""
    with Provider(database_url, call_timeout=0.5, pool_size=1) as provider:
        for _ in range(2):
            with provider.engine.connect() as connection:
                assert connection.exec_driver_sql("SELECT 1 FROM pg_sleep(1)").scalar_one() == 1
            provider.get_statistics()
