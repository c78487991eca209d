"""Event times that are set by clocks which differ, and equal ones."""

import random

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, created, event, subscription, workflow

Provider = PostgresPersistenceProvider
BEHIND, MARGIN = 5.0, 60.0


def test_event_of_a_publisher_whose_clock_is_behind_reaches_a_subscription_that_looks_back(provider: Provider) -> None:
    """It is published after both subscriptions, at `at(0)` by the subscriber's clock."""
    id = created(provider, workflow()).id
    for name, seconds in ("as of now", 0.0), ("looks back", -MARGIN):
        provider.create_event_subscription(
            subscription(id=name, workflow_id=id, event_name="paid", event_key="4711", subscribe_as_of=at(seconds))
        )
    published = event(event_name="paid", event_key="4711", event_time=at(-BEHIND))
    provider.create_event(published)
    assert [found.id for found in provider.get_subscriptions("paid", "4711", published.event_time)] == ["looks back"]
    assert provider.get_events_since("paid", "4711", at(0)) == []
    assert provider.get_events_since("paid", "4711", at(-MARGIN)) == [published.id]


def test_events_with_equal_times_are_returned_in_the_same_order_each_time(provider: Provider) -> None:
    ids = [f"event-{number}" for number in range(20)]
    for id in random.sample(ids, len(ids)):
        provider.create_event(event(id=id, event_name="paid", event_key="4711", event_time=at(0)))
    assert (
        provider.get_events_since("paid", "4711", at(0)) == sorted(ids) == sorted(provider.get_runnable_events(at(0)))
    )
