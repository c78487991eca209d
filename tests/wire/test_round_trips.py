"""How often a call waits for the server: counted at the wire, after warm-up."""

import psycopg
import pytest

from tests.wire.calls import ONE_ROUND_TRIP, Prepare
from tests.wire.proxy import Proxy, Traffic
from wfe_postgres import PostgresPersistenceProvider

WARM_UP = 7  # psycopg prepares a statement when it has seen it five times


@pytest.mark.parametrize("prepare", ONE_ROUND_TRIP.values(), ids=ONE_ROUND_TRIP)
def test_one_round_trip(proxied: PostgresPersistenceProvider, proxy: Proxy, prepare: Prepare) -> None:
    """One message there, one back, at any size; no BEGIN, no COMMIT, no look before."""
    for _ in range(WARM_UP):
        prepare(proxied)()
    call = prepare(proxied)
    proxy.reset()
    call()
    assert proxy.traffic == Traffic(round_trips=1, statements=1, readies=1, sent=proxy.traffic.sent)


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
