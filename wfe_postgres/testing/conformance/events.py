"""Events: storing them, finding them by name, key and time, and marking them as processed."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta, timezone
from uuid import UUID

import pytest

from wfe_postgres.contract.errors import EventNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.testing.conformance.support import Conformance, at, event

UNKNOWN: dict[str, Callable[[PersistenceProvider], object]] = {
    "get_event": lambda it: it.get_event("unknown"),
    "mark_event_processed": lambda it: it.mark_event_processed("unknown"),
    "mark_event_unprocessed": lambda it: it.mark_event_unprocessed("unknown"),
}
MICROSECOND = timedelta(microseconds=1)
TOKYO = timezone(timedelta(hours=9))


class EventConformance(Conformance):
    """`EventRepository`."""

    def test_a_created_event_is_read_back_whole(self, provider: PersistenceProvider) -> None:
        """All fields are stored, including `is_processed`."""
        for it in (event(event_data={"amount": 10}), event(is_processed=True)):
            assert provider.create_event(it) == it.id
            assert provider.get_event(it.id) == it

    def test_an_event_without_id_gets_a_uuid(self, provider: PersistenceProvider) -> None:
        """An empty id becomes a new UUID, which is also set on the object."""
        new = event(id="")
        event_id = provider.create_event(new)
        assert str(UUID(event_id)) == event_id == new.id
        assert provider.get_event(event_id) == new

    def test_an_event_that_comes_twice_is_stored_once(self, provider: PersistenceProvider) -> None:
        """With `if_new` a stored id is no error, and the stored event is unchanged."""
        first = event(id="webhook-1", event_data="first")
        assert provider.create_event(first, if_new=True) == "webhook-1"
        provider.mark_event_processed("webhook-1")
        again = event(id="webhook-1", event_data="second")
        assert provider.create_event(again, if_new=True) == "webhook-1"
        first.is_processed = True
        assert provider.get_event("webhook-1") == first

    def test_the_store_keeps_its_own_copy_of_an_event(self, provider: PersistenceProvider) -> None:
        """Changes of a created or loaded event do not affect the store."""
        mine = event(event_data={"amounts": [1]})
        provider.create_event(mine)
        stored = deepcopy(provider.get_event(mine.id))
        for it in (mine, provider.get_event(mine.id)):
            it.event_data["amounts"].append(2)
            it.is_processed = True
        assert provider.get_event(mine.id) == stored

    @pytest.mark.parametrize("call", UNKNOWN)
    def test_an_unknown_event_is_an_error(self, provider: PersistenceProvider, call: str) -> None:
        """An unknown id raises `EventNotFoundError`."""
        known = event()
        provider.create_event(known)
        with pytest.raises(EventNotFoundError) as caught:
            UNKNOWN[call](provider)
        assert caught.value.event_id == "unknown"
        assert provider.get_event(known.id) == known

    def test_events_are_marked_and_unmarked(self, provider: PersistenceProvider) -> None:
        """A processed event is not runnable, an unprocessed one is; both calls are idempotent."""
        one, two = (provider.create_event(event(event_time=at(second))) for second in (1, 2))
        for _ in range(2):
            provider.mark_event_processed(one)
            assert provider.get_runnable_events(at(2)) == [two]
            assert provider.get_event(one).is_processed
        assert not provider.get_event(two).is_processed
        for _ in range(2):
            provider.mark_event_unprocessed(one)
            assert provider.get_runnable_events(at(2)) == [one, two]
            assert not provider.get_event(one).is_processed

    def test_unprocessed_events_are_runnable_from_their_time_on(self, provider: PersistenceProvider) -> None:
        """Unprocessed events with `event_time <= as_at` are runnable, for any UTC offset of `as_at`."""
        event_id = provider.create_event(event(event_time=at(1)))
        provider.create_event(event(event_time=at(0), is_processed=True))
        assert provider.get_runnable_events(at(1)) == [event_id]
        assert provider.get_runnable_events(at(1).astimezone(TOKYO)) == [event_id]
        assert provider.get_runnable_events(at(1) - MICROSECOND) == []

    def test_the_oldest_are_runnable_first(self, provider: PersistenceProvider) -> None:
        """Oldest first, at most `limit`."""
        ids = {second: provider.create_event(event(event_time=at(second))) for second in (3, 1, 4, 2)}
        assert provider.get_runnable_events(at(3)) == [ids[1], ids[2], ids[3]]
        assert provider.get_runnable_events(at(9), limit=2) == [ids[1], ids[2]]
        assert provider.get_runnable_events(at(9), 9) == [ids[1], ids[2], ids[3], ids[4]]
        assert provider.get_runnable_events(at(9), limit=0) == []

    def test_matching_events_up_to_a_timestamp(self, provider: PersistenceProvider) -> None:
        """All matching events with `event_time <= as_of`, processed or not, oldest first."""
        ids = {second: provider.create_event(event(event_time=at(second))) for second in (3, 1, 2)}
        provider.mark_event_processed(ids[1])
        assert provider.get_events("paid", "order-1", at(2)) == [ids[1], ids[2]]
        assert provider.get_events("paid", "order-1", at(2) - MICROSECOND) == [ids[1]]
        assert provider.get_events("paid", "order-1", at(9).astimezone(TOKYO)) == [ids[1], ids[2], ids[3]]

    def test_matching_events_since_a_timestamp(self, provider: PersistenceProvider) -> None:
        """All matching events with `event_time >= since`, processed or not, oldest first."""
        ids = {second: provider.create_event(event(event_time=at(second))) for second in (3, 1, 2)}
        provider.mark_event_processed(ids[3])
        assert provider.get_events_since("paid", "order-1", at(2)) == [ids[2], ids[3]]
        assert provider.get_events_since("paid", "order-1", at(2) + MICROSECOND) == [ids[3]]
        assert provider.get_events_since("paid", "order-1", at(0).astimezone(TOKYO)) == [
            ids[1],
            ids[2],
            ids[3],
        ]

    def test_matching_events_are_limited(self, provider: PersistenceProvider) -> None:
        """At most `limit`, the oldest; a negative one is a `ValueError`."""
        ids = {second: provider.create_event(event(event_time=at(second))) for second in (3, 1, 2)}
        assert provider.get_events("paid", "order-1", at(9), 2) == [ids[1], ids[2]]
        assert provider.get_events("paid", "order-1", at(9), limit=0) == []
        assert provider.get_events_since("paid", "order-1", at(2), limit=1) == [ids[2]]
        assert provider.get_events_since("paid", "order-1", at(2), 5) == [ids[2], ids[3]]
        for call in (provider.get_events, provider.get_events_since):
            with pytest.raises(ValueError, match="limit"):
                call("paid", "order-1", at(0), -1)

    def test_an_event_matches_by_name_and_key(self, provider: PersistenceProvider) -> None:
        """Name and key must be equal: no prefix, case-insensitive, pattern or swapped matches."""
        event_id = provider.create_event(event(event_name="paid", event_key="order-1"))
        others = [("paid", "order-2"), ("sent", "order-1"), ("Paid", "order-1"), ("paid", "order"), ("", "")]
        for name, key in others:
            provider.create_event(event(event_name=name, event_key=key))
        assert provider.get_events("paid", "order-1", at(0)) == [event_id]
        assert provider.get_events_since("paid", "order-1", at(0)) == [event_id]
        for name, key in (("p%", "order-1"), ("paid", "order__"), ("order-1", "paid")):
            assert provider.get_events(name, key, at(0)) == []
            assert provider.get_events_since(name, key, at(0)) == []
