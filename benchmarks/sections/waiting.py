"""Workflows that wait for events: how many events a host delivers, how soon, and what waiting costs."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import event

from benchmarks.harness import Race
from benchmarks.implementations.baseline import connect
from benchmarks.plan import Plan
from benchmarks.scenario import OURS, Scenario, at_most
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.contract.services import LifecycleEventType
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost

_TIMEOUT = 120.0  # seconds
_IDLE = 5.0  # seconds
_LATENCIES = 10
_POLLS = 100

# As a host leaves a workflow that waits: nothing is due, one subscription.
_WAITING = """
WITH waiting AS (
  INSERT INTO wfc.workflows (id, name, definition_id, version, status, data, create_time)
  SELECT 'waiting-' || n, 'waiting-' || n, 'order', 1, 'Runnable', %(data)s::jsonb, now()
    FROM generate_series(1, %(count)s::int) AS n
)
INSERT INTO wfc.event_subscriptions (id, workflow_id, step_id, execution_pointer_id, event_name, event_key,
                                     subscribe_as_of)
SELECT 'subscription-' || n, 'waiting-' || n, 0, n, 'paid', 'O-' || n, now()
  FROM generate_series(1, %(count)s::int) AS n
"""


def run(scenario: Scenario) -> None:
    """Events to waiting workflows, the latency of one, an idle host, and a poll with many waiting."""
    url = scenario.database("waiting", _create)
    with PostgresPersistenceProvider(url) as provider:
        _deliveries(scenario, provider)
        _latency(scenario, provider)
        _idle(scenario, provider)
        _polls(scenario, provider, url)


def _deliveries(scenario: Scenario, provider: PostgresPersistenceProvider) -> None:
    count = scenario.plan.waiting
    title = f"events to {count:,} waiting workflows"
    scenario.progress.race(title)
    ended: list[float] = []
    with _host(provider, ended) as host:
        for number in range(count):
            host.start_workflow("order", {"number": number})
        _until(lambda: _waiting(provider) == count)
        begin = time.perf_counter()
        for number in range(count):
            host.publish_event("paid", str(number))
        _until(lambda: len(ended) == count)
    scenario.value(title, "published, delivered and done", count / (max(ended) - begin), "/s")


def _latency(scenario: Scenario, provider: PostgresPersistenceProvider) -> None:
    title = "from publish_event to the step, in one host"
    scenario.progress.race(title)
    ended: list[float] = []
    took: list[float] = []
    with _host(provider, ended) as host:
        for number in range(_LATENCIES):
            host.start_workflow("order", {"number": f"latency {number}"})
            _until(lambda: _waiting(provider) == 1)
            begin = time.perf_counter()
            host.publish_event("paid", f"latency {number}")
            _until(partial(_has, ended, number + 1))
            took.append(ended[-1] - begin)
    scenario.add_race(Race(title, {OURS: took}))
    scenario.value(title, "median", statistics.median(took) * 1000, "ms")


def _idle(scenario: Scenario, provider: PostgresPersistenceProvider) -> None:
    title = "an idle host, poll interval 1 s"
    scenario.progress.race(title)
    statements: list[object] = []
    event.listen(provider.engine, "before_cursor_execute", lambda *_: statements.append(None))
    with _host(provider, []):
        time.sleep(1)
        begin, before = time.perf_counter(), len(statements)
        time.sleep(_IDLE)
        per_minute = (len(statements) - before) / (time.perf_counter() - begin) * 60
    scenario.value(title, "queries", per_minute, "/min", at_most(200))


def _polls(scenario: Scenario, provider: PostgresPersistenceProvider, url: str) -> None:
    count = scenario.plan.waiting * 100
    title = f"a poll with {count:,} workflows waiting"
    empty = _times(provider)
    with connect(url) as connection:
        connection.execute(_WAITING, {"count": count, "data": json.dumps({"customer": "C-10021"})})
        connection.execute("VACUUM (ANALYZE)")
    full = _times(provider)
    race = scenario.add_race(Race(title, {"empty store": empty, "filled store": full}))
    scenario.ratio(title, "of an empty store", race.ratio("filled store", "empty store"), at_most(1.2))


def _times(provider: PostgresPersistenceProvider) -> list[float]:
    """What the three queries of a poll take."""
    found: list[float] = []
    for _ in range(_POLLS):
        now = datetime.now(UTC)
        begin = time.perf_counter()
        provider.process_commands(now, lambda _: None)
        provider.get_runnable_events(now, 100)
        provider.get_runnable_instances(now, 100, definitions=[("order", 1)])
        found.append(time.perf_counter() - begin)
    return found


@contextmanager
def _host(provider: PostgresPersistenceProvider, ended: list[float]) -> Iterator[WorkflowHost]:
    definition = WorkflowBuilder("order").wait_for("paid", key=_key).then(lambda _: None).build()
    host = WorkflowHost(provider, [definition])
    host.on(lambda it: ended.append(time.perf_counter()) if it.type is LifecycleEventType.COMPLETED else None)
    with host:
        yield host


def _key(context: StepContext) -> str:
    return str(context.data["number"])


def _waiting(provider: PostgresPersistenceProvider) -> int:
    return provider.get_statistics().open_subscriptions


def _has(found: list[float], count: int) -> bool:
    return len(found) >= count


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _TIMEOUT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the host has not done it")
        time.sleep(0.005)


def _create(url: str, _: Plan) -> None:
    with PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()
