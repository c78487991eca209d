"""Calls that used to go on without end, and time limits of the server's that end a transaction for certain."""

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
    """An engine whose creator hands out the same connection each time, and that connection."""
    only = psycopg.connect(database_url)
    engine = create_engine("postgresql+psycopg://", creator=lambda: only, poolclass=request.param)
    yield engine, only
    engine.dispose()
    only.close()


def test_a_pool_whose_only_connection_the_server_has_ended(one_connection: EngineAndConnection, sql: Sql) -> None:
    """The call ends within its budget, and says that nothing was sent."""
    engine, only = one_connection
    provider = Provider.from_engine(engine, retry_budget=0.5)
    provider.create_event(event(id="before"))
    sql("SELECT pg_terminate_backend(%s)", [only.info.backend_pid])
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(PersistenceError) as caught:
        provider.create_event(event(id="never"))
    assert time.monotonic() - began < 2
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert caught.value.retryable
    assert sql("SELECT id FROM wfc.events") == [("before",)]


def test_a_pool_full_of_ended_connections_costs_no_failure(database_url: str, sql: Sql) -> None:
    """Each is left for the next one, with no retry."""
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


def test_a_frozen_clock_does_not_stop_retries(database_url: str) -> None:
    """Python's clocks stand still; the retry budget ends all the same."""
    with TcpProxy(database_url) as proxy, Provider(proxy.url, retry_budget=0.5, pool_size=1) as provider:
        provider.get_statistics()
        proxy.fault = Refuse()
        proxy.cut()
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        with freeze_time("2026-01-01"), pytest.raises(PersistenceError):
            provider.create_event(event())
        assert time.clock_gettime(time.CLOCK_MONOTONIC) - began < 3


def test_a_frozen_clock_does_not_stop_deadlines(database_url: str) -> None:
    """Nor does the deadline wait for them."""
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
    """A block in which the server ends the session, for it has waited too long."""
    with provider.transaction() as tx:
        tx.create_event(event(id="event-1"))
        time.sleep(0.4)


def idle_before_a_call(provider: Provider) -> None:
    """The same, noticed by another call instead of the COMMIT."""
    with provider.transaction() as tx:
        tx.create_event(event(id="event-1"))
        time.sleep(0.4)
        tx.create_event(event(id="event-2"))


TIMEOUTS = {"25P03": "idle_in_transaction_session_timeout", "25P04": "transaction_timeout"}


@pytest.mark.parametrize("block", [idle, idle_before_a_call])
@pytest.mark.parametrize("sqlstate", TIMEOUTS)
def test_a_transaction_that_the_server_ended_is_no_doubt(
    cluster: Cluster, database: str, sqlstate: str, block: Callable[[Provider], None]
) -> None:
    """It was rolled back for certain, and may be made again."""
    if not cluster.sql("SELECT FROM pg_settings WHERE name = %s", TIMEOUTS[sqlstate]):
        pytest.skip(f"this server has no {TIMEOUTS[sqlstate]}")
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET {TIMEOUTS[sqlstate]} = '150ms'")
    with Provider(database) as provider:
        with pytest.raises(PersistenceError) as caught:
            block(provider)
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert caught.value.sqlstate == sqlstate
        assert caught.value.retryable
        assert provider.get_runnable_events(at(0)) == []


def test_an_own_deadline_is_called_that(database_url: str) -> None:
    """Not "the database refused the statement", which is what an administrator's cancellation is."""
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


def test_transaction_goes_on_after_a_cancelled_savepoint(database_url: str) -> None:
    """A call that reached its deadline in there does not put the later calls and the COMMIT in doubt."""
    with Provider(database_url, call_timeout=0.5) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="locked"))
        other.execute("SELECT FROM wfc.events FOR UPDATE")
        with provider.transaction() as tx:
            for _ in range(2):
                with pytest.raises(PersistenceError, match="reached its deadline"), tx.transaction() as inner:
                    inner.mark_event_processed("locked")
            tx.create_event(event(id="after"))
        other.rollback()
        assert has_event(provider, "after")


def test_a_connection_that_was_cancelled_is_not_used_again(database_url: str, sql: Sql) -> None:
    """The cancellation could still be on its way."""
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


def test_options_that_no_deadline_could_be_kept_with(database_url: str) -> None:
    """An application that makes the connections itself says that it wants no deadline."""
    for option in ("creator", "pool", "module"):
        with pytest.raises(ValueError, match="call_timeout=None"):
            Provider(database_url, **{option: None})  # type: ignore[arg-type]
    with Provider(database_url, call_timeout=None, creator=lambda: psycopg.connect(database_url)) as provider:
        provider.create_event(event(id="event-1"))
        assert has_event(provider, "event-1")


def test_a_direct_use_of_the_engine_has_no_deadline(database_url: str) -> None:
    """Neither that of the connection's first questions nor that of an earlier call."""
    with Provider(database_url, call_timeout=0.5, pool_size=1) as provider:
        for _ in range(2):
            with provider.engine.connect() as connection:
                assert connection.exec_driver_sql("SELECT 1 FROM pg_sleep(1)").scalar_one() == 1
            provider.get_statistics()
