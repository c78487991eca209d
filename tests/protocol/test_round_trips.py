"""The number of round trips of each call, counted in the protocol after warm-up."""

import psycopg
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from tests.protocol.calls import LARGE, ONE_ROUND_TRIP, OTHERS, Call, Prepare
from tests.protocol.proxy import Proxy, Traffic
from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories

SOME = [
    "create_new_workflow",
    "persist_workflow of 10, 1 changed",
    "persist_workflow_with_subscriptions",
    "get_workflow_instance",
    "create_event",
    "set_subscription_token, open",
    "schedule_command",
    "get_statistics",
]
WARM_UP = 7  # psycopg prepares a statement after five executions


@pytest.mark.parametrize("prepare", ONE_ROUND_TRIP.values(), ids=ONE_ROUND_TRIP)
def test_call_takes_one_round_trip(proxied: PostgresPersistenceProvider, proxy: Proxy, prepare: Prepare) -> None:
    """One request and one answer: no BEGIN, no COMMIT, no preceding query."""
    for _ in range(WARM_UP):
        prepare(proxied)()
    check(proxy, prepare(proxied))


@pytest.mark.parametrize("prepare", LARGE.values(), ids=LARGE)
def test_call_with_thousand_pointers_takes_one_round_trip(
    proxied: PostgresPersistenceProvider, proxy: Proxy, prepare: Prepare
) -> None:
    """The same for workflows with 1,000 pointers."""
    for _ in range(WARM_UP):
        for name in ("create_new_workflow", "persist_workflow of 10, 1 changed"):
            ONE_ROUND_TRIP[name](proxied)()
    check(proxy, prepare(proxied))


def test_save_without_revision_takes_two_round_trips(proxied: PostgresPersistenceProvider, proxy: Proxy) -> None:
    """One that reads the revision, and the save under it."""
    prepare = OTHERS["persist_workflow, unconditional"].prepare
    for _ in range(WARM_UP):
        prepare(proxied)()
    call = prepare(proxied)
    proxy.reset()
    call()
    assert (proxy.traffic.round_trips, proxy.traffic.statements) == (2, 2)


def check(proxy: Proxy, call: Call) -> None:
    """Check that the call takes one statement and one round trip."""
    proxy.reset()
    call()
    assert proxy.traffic == Traffic(round_trips=1, statements=1, ready_messages=1, sent=proxy.traffic.sent)


def round_trips_of(provider: PostgresRepositories, proxy: Proxy) -> dict[str, int]:
    """The number of round trips of each call in `SOME`, after warm-up."""
    found = {}
    for name in SOME:
        for _ in range(WARM_UP):
            ONE_ROUND_TRIP[name](provider)()
        call = ONE_ROUND_TRIP[name](provider)
        proxy.reset()
        call()
        found[name] = proxy.traffic.round_trips
    return found


def test_call_on_application_engine_takes_one_round_trip(proxy: Proxy) -> None:
    """The same on an engine that the application created."""
    engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
    assert set(round_trips_of(PostgresPersistenceProvider.from_engine(engine), proxy).values()) == {1}
    engine.dispose()


def test_call_in_caller_owned_transaction_takes_one_round_trip(
    proxied: PostgresPersistenceProvider, proxy: Proxy
) -> None:
    """The same in an open transaction: no additional statements around a call."""
    engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        assert set(round_trips_of(proxied.using(session), proxy).values()) == {1}
    engine.dispose()
    with psycopg.connect(proxy.url) as connection:
        assert set(round_trips_of(proxied.using(connection), proxy).values()) == {1}
        connection.rollback()
    with proxied.transaction() as tx:
        assert set(round_trips_of(tx, proxy).values()) == {1}


def test_proxy_counts_round_trips_and_statements(proxy: Proxy) -> None:
    """Check the proxy: two statements take two round trips, or one in a pipeline, prepared or not."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        proxy.reset()
        connection.execute("SELECT 1")
        connection.execute("SELECT 2", prepare=False)
        assert (proxy.traffic.round_trips, proxy.traffic.statements) == (2, 2)

        proxy.reset()
        with connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 2")
        assert (proxy.traffic.round_trips, proxy.traffic.statements) == (1, 2)

        proxy.reset()
        connection.execute("SELECT %s", ["x" * 100_000], prepare=True)
        assert (proxy.traffic.round_trips, proxy.traffic.statements) == (2, 1)
        assert 100_000 < proxy.traffic.sent < 101_000
