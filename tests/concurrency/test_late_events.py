"""An event is returned until it is marked, in whatever order, and however late, producers commit."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import permutations
from typing import Any

import pytest

from tests.concurrency.crowd import together
from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.testing.conformance.support import TIMEOUT, at, event

PRODUCERS = 4
CONSUMERS = 2


def consume(provider: PostgresRepositories) -> list[str]:
    """Take what is runnable, mark it, and return its ids: one round of a consumer."""
    ids = provider.get_runnable_events(at(999))
    for id in ids:
        provider.mark_event_processed(id)
    return ids


@pytest.mark.parametrize("seconds", [(0, 1, 2), (2, 1, 0), (0, 0, 0)])
def test_a_late_commit_hides_no_event(provider: PostgresPersistenceProvider, seconds: tuple[int, ...]) -> None:
    """Three producers publish in this order of event times, and commit in every other, a consumer in between."""
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


def test_a_mark_that_was_rolled_back_counts_for_nothing(provider: PostgresPersistenceProvider) -> None:
    """The consumer died before its commit: the event is there for the next one, until somebody's mark stands."""
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


def test_no_event_is_skipped_in_a_stream(database_url: str) -> None:
    """Producers whose transactions overlap, each event older or newer than what was consumed already."""
    ended = threading.Event()
    last = threading.Barrier(PRODUCERS, ended.set, TIMEOUT)
    with PostgresPersistenceProvider(database_url) as provider:

        def produce(number: int) -> list[str]:
            ids = []
            for turn in range(25):
                with provider.transaction() as joined:
                    times = (at(turn), at(-turn), at(number))
                    mine = [joined.create_event(event(id="", event_time=moment)) for moment in times]
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
        shares = together(len(parts), lambda number: parts[number](number))
        produced = {id for share in shares[:PRODUCERS] for id in share}
        assert len(produced) == PRODUCERS * 25 * 3
        assert {id for share in shares[PRODUCERS:] for id in share} == produced
        assert consume(provider) == []
