"""The small calls: one row written or read, against the same statement in raw psycopg."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

from benchmarks.harness import Prepare
from benchmarks.implementations.floor_calls import FloorCalls
from benchmarks.samples import order
from benchmarks.scenario import FLOOR, OURS, Line, Stage, at_most, stores
from wfe_postgres import Event, EventSubscription, PostgresPersistenceProvider

DUE = 10
TARGETS = {
    "create_event": 1.5,
    "mark_event_processed": 1.5,
    "set_subscription_token": 1.5,
    "get_event": 2.2,
    "get_runnable_instances": 2.2,
}


def run(stage: Stage) -> None:
    """Both lines."""
    for line in (stage.near, stage.far):
        url = line.through(stage.url)
        with stores(url, OURS), PostgresPersistenceProvider(url) as provider, closing(FloorCalls(url)) as floor:
            for name, ways in _calls(provider, floor).items():
                _race(stage, line, name, ways)


def _race(stage: Stage, line: Line, name: str, ways: dict[str, Prepare]) -> None:
    far = line is stage.far
    race = stage.race(name, ways, line=line, seconds=stage.plan.race * (0.4 if far else 0.7))
    stage.ratio(race.title, "of raw autocommit", race.ratio(OURS, FLOOR), None if far else at_most(TARGETS[name]))
    if far:
        stage.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))


def _calls(provider: PostgresPersistenceProvider, floor: FloorCalls) -> dict[str, dict[str, Prepare]]:
    """The calls by name, and of each the two ways; what is written are rows of their own."""
    for _ in range(DUE):
        provider.create_new_workflow(order(3))
    due = datetime.now(UTC)
    first, second = provider.create_event(_event()), provider.create_event(_event())
    held, held_too = (provider.create_event_subscription(_subscription()) for _ in range(2))
    return {
        "create_event": {
            OURS: lambda: partial(provider.create_event, _event()),
            FLOOR: lambda: partial(floor.create_event, _event()),
        },
        "mark_event_processed": {
            OURS: lambda: partial(provider.mark_event_processed, first),
            FLOOR: lambda: partial(floor.mark_event_processed, second),
        },
        "set_subscription_token": {
            OURS: lambda: partial(provider.set_subscription_token, held, *_token()),
            FLOOR: lambda: partial(floor.set_subscription_token, held_too, *_token()),
        },
        "get_event": {
            OURS: lambda: partial(provider.get_event, first),
            FLOOR: lambda: partial(floor.get_event, first),
        },
        "get_runnable_instances": {
            OURS: lambda: partial(provider.get_runnable_instances, due),
            FLOOR: lambda: partial(floor.get_runnable_instances, due),
        },
    }


def _event() -> Event:
    return Event("order.paid", "O-4711", {"order": "O-4711", "paid": {"amount": 1995, "currency": "EUR"}})


def _subscription() -> EventSubscription:
    return EventSubscription("workflow", 3, "pointer", "order.paid", "O-4711")


def _token() -> tuple[str, str, datetime]:
    """Token, worker, expiry: the holder renews."""
    return "token", "host-1", datetime.now(UTC) + timedelta(minutes=1)
