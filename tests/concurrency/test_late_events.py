"""An event is returned until it is marked as processed, however late and in whatever order producers commit."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import permutations
from typing import Any

import pytest

from tests.concurrency.support import run_in_threads
from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.testing.conformance.support import TIMEOUT, at, event

PRODUCERS = 4
CONSUMERS = 2


def consume(provider: PostgresRepositories) -> list[str]:
    """Mark all runnable events as processed, and return their ids."""
    ids = provider.get_runnable_events(at(999))
    for id in ids:
        provider.mark_event_processed(id)
    return ids


@pytest.mark.parametrize("seconds", [(0, 1, 2), (2, 1, 0), (0, 0, 0)])
def test_event_of_late_commit_is_returned(provider: PostgresPersistenceProvider, seconds: tuple[int, ...]) -> None:
    """Three producers create events with these times and commit in every order; a consumer polls after each commit."""
    for order in permutations(range(len(seconds))):
        with ExitStack() as stack:
            connections = [stack.enter_context(provider.engine.connect()) for _ in seconds]
            ids = [
                provider.using(connection).create_event(event(event_time=at(second)))
                for connection, second in zip(connections, seconds, strict=True)
            ]
            assert consume(provider) == []
            for number in order:
                connections[number].commit()
                assert consume(provider) == [ids[number]]
                assert consume(provider) == []


def test_event_mark_rolled_back_leaves_the_event_unprocessed(provider: PostgresPersistenceProvider) -> None:
    """If the consumer does not commit, the event is returned to the next consumer until a mark is committed."""
    id = provider.create_event(event())
    with provider.engine.connect() as connection:
        joined = provider.using(connection)
        assert consume(joined) == [id]
        assert consume(joined) == []
        assert provider.get_runnable_events(at(999)) == [id]
        connection.rollback()
    assert consume(provider) == [id]
    provider.mark_event_unprocessed(id)
    assert consume(provider) == [id]
    assert consume(provider) == []


def test_overlapping_producer_transactions_lose_no_event(database_url: str) -> None:
    """Producers with overlapping transactions create events older and newer than those already consumed."""
    ended = threading.Event()
    last = threading.Barrier(PRODUCERS, ended.set, TIMEOUT)
    with PostgresPersistenceProvider(database_url) as provider:

        def produce(number: int) -> list[str]:
            ids = []
            for turn in range(25):
                with provider.transaction() as joined:
                    times = (at(turn), at(-turn), at(number))
                    mine = [joined.create_event(event(id="", event_time=timestamp)) for timestamp in times]
                    provider.get_runnable_events(at(999))
                ids += mine
            last.wait()
            return ids

        def take(_: int) -> list[str]:
            ids: list[str] = []
            while not ended.is_set():
                ids += consume(provider)
            return ids + consume(provider)

        parts: list[Callable[[int], Any]] = [produce] * PRODUCERS + [take] * CONSUMERS
        shares = run_in_threads(len(parts), lambda number: parts[number](number))
        produced = {id for share in shares[:PRODUCERS] for id in share}
        assert len(produced) == PRODUCERS * 25 * 3
        assert {id for share in shares[PRODUCERS:] for id in share} == produced
        assert consume(provider) == []
