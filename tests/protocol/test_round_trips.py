"""How often a call waits for the server: counted at the wire, after warm-up."""

import psycopg
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from tests.protocol.calls import LARGE, ONE_ROUND_TRIP, Call, Prepare
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
WARM_UP = 7  # psycopg prepares a statement when it has seen it five times


@pytest.mark.parametrize("prepare", ONE_ROUND_TRIP.values(), ids=ONE_ROUND_TRIP)
def test_one_round_trip(proxied: PostgresPersistenceProvider, proxy: Proxy, prepare: Prepare) -> None:
    """One message there, one back; no BEGIN, no COMMIT, no look before."""
    for _ in range(WARM_UP):
        prepare(proxied)()
    check(proxy, prepare(proxied))


@pytest.mark.parametrize("prepare", LARGE.values(), ids=LARGE)
def test_one_round_trip_at_any_size(proxied: PostgresPersistenceProvider, proxy: Proxy, prepare: Prepare) -> None:
    """The same for a thousand pointers."""
    for _ in range(WARM_UP):
        for name in ("create_new_workflow", "persist_workflow of 10, 1 changed"):
            ONE_ROUND_TRIP[name](proxied)()
    check(proxy, prepare(proxied))


def check(proxy: Proxy, call: Call) -> None:
    """The call is one statement and one round trip."""
    proxy.reset()
    call()
    assert proxy.traffic == Traffic(round_trips=1, statements=1, readies=1, sent=proxy.traffic.sent)


def counted(provider: PostgresRepositories, proxy: Proxy) -> dict[str, int]:
    """How many round trips each of some calls takes, after warm-up."""
    found = {}
    for name in SOME:
        for _ in range(WARM_UP):
            ONE_ROUND_TRIP[name](provider)()
        call = ONE_ROUND_TRIP[name](provider)
        proxy.reset()
        call()
        found[name] = proxy.traffic.round_trips
    return found


def test_on_an_applications_engine(proxy: Proxy) -> None:
    """The same on an engine that knows nothing of it."""
    engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
    assert set(counted(PostgresPersistenceProvider.from_engine(engine), proxy).values()) == {1}
    engine.dispose()


def test_in_a_callers_transaction(proxied: PostgresPersistenceProvider, proxy: Proxy) -> None:
    """The same once it has begun: nothing is asked or set around a call."""
    engine = create_engine(make_url(proxy.url).set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        assert set(counted(proxied.using(session), proxy).values()) == {1}
    engine.dispose()
    with psycopg.connect(proxy.url) as connection:
        assert set(counted(proxied.using(connection), proxy).values()) == {1}
        connection.rollback()
    with proxied.transaction() as tx:
        assert set(counted(tx, proxy).values()) == {1}


def test_what_is_counted(proxy: Proxy) -> None:
    """The measure itself: two statements are two round trips, in a pipeline one; unprepared or not."""
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
