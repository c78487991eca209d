"""Calls that read or write one row, compared with the same statement in psycopg."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

from benchmarks.harness import Prepare
from benchmarks.implementations.baseline_calls import BaselineCalls
from benchmarks.samples import order
from benchmarks.scenario import BASELINE, OURS, Route, Scenario, at_most, stores
from wfe_postgres import Event, EventSubscription, PostgresPersistenceProvider

DUE = 10
OF_BASELINE = 1.35


def run(scenario: Scenario) -> None:
    """Run on both routes."""
    for route in (scenario.near, scenario.far):
        url = route.through(scenario.url)
        with stores(url, OURS), PostgresPersistenceProvider(url) as provider, closing(BaselineCalls(url)) as baseline:
            for name, implementations in _calls(provider, baseline).items():
                _race(scenario, route, name, implementations)


def _race(scenario: Scenario, route: Route, name: str, implementations: dict[str, Prepare]) -> None:
    far = route is scenario.far
    race = scenario.race(name, implementations, route=route, seconds=scenario.plan.race * 0.4)
    scenario.ratio(race.title, "of plain psycopg", race.ratio(OURS, BASELINE), None if far else at_most(OF_BASELINE))
    if far:
        scenario.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))


def _calls(provider: PostgresPersistenceProvider, baseline: BaselineCalls) -> dict[str, dict[str, Prepare]]:
    """The calls by name with their two implementations, which write to different rows."""
    for _ in range(DUE):
        provider.create_new_workflow(order(3))
    due = datetime.now(UTC)
    first, second = provider.create_event(_event()), provider.create_event(_event())
    held, held_too = (provider.create_event_subscription(_subscription()) for _ in range(2))
    return {
        "create_event": {
            OURS: lambda: partial(provider.create_event, _event()),
            BASELINE: lambda: partial(baseline.create_event, _event()),
        },
        "mark_event_processed": {
            OURS: lambda: partial(provider.mark_event_processed, first),
            BASELINE: lambda: partial(baseline.mark_event_processed, second),
        },
        "set_subscription_token": {
            OURS: lambda: partial(provider.set_subscription_token, held, *_token()),
            BASELINE: lambda: partial(baseline.set_subscription_token, held_too, *_token()),
        },
        "get_event": {
            OURS: lambda: partial(provider.get_event, first),
            BASELINE: lambda: partial(baseline.get_event, first),
        },
        "get_runnable_instances": {
            OURS: lambda: partial(provider.get_runnable_instances, due),
            BASELINE: lambda: partial(baseline.get_runnable_instances, due),
        },
    }


def _event() -> Event:
    return Event("order.paid", "O-4711", {"order": "O-4711", "paid": {"amount": 1995, "currency": "EUR"}})


def _subscription() -> EventSubscription:
    return EventSubscription("workflow", 3, "pointer", "order.paid", "O-4711")


def _token() -> tuple[str, str, datetime]:
    """Token, worker and expiry; the holder renews the token."""
    return "token", "host-1", datetime.now(UTC) + timedelta(minutes=1)
