"""Waiters that are gone, unreadable, odd or unknown: they stop no others, and events reach whom they can reach."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, eventually
from tests.host_faults.kit.local import host_of
from wfe_postgres import Event, EventSubscription, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.contract.models import now
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost

DAY = timedelta(days=1)
UNPROCESSED = "SELECT count(*) FROM wfc.events WHERE NOT is_processed"


def keep(context: StepContext, event: Event) -> None:
    """Keep what came."""
    context.data.setdefault("got", []).append(event.event_data)


WAITING = WorkflowBuilder("waiting").wait_for("bell", key="k", into=keep).build()
OTHER = (
    WorkflowBuilder("other")
    .while_do(
        lambda context: len(context.data.get("got", [])) < 2,
        lambda branch: branch.wait_for("bell", key="k", into=keep),
    )
    .build()
)


def started(host: WorkflowHost, definition: str, number: int = 1) -> list[str]:
    """Start so many workflows, and run them until they wait."""
    ids = [host.start_workflow(definition) for _ in range(number)]
    host.run_until_idle()
    return ids


def subscribe(provider: PostgresPersistenceProvider, workflow: str, pointer: str = "p") -> None:
    """Store a subscription that is older than any other."""
    provider.create_event_subscription(EventSubscription(workflow, 0, pointer, "bell", "k", now() - DAY))


def purged_waiter(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The workflow is gone, its subscription is not."""
    subscribe(provider, "gone")


def waiter_without_pointer(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The pointer is gone."""
    [id] = started(host, "waiting")
    subscribe(provider, id, "gone")


def unreadable_waiter(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """A row that cannot be read."""
    [id] = started(host, "waiting")
    sql("UPDATE wfc.execution_pointers SET children = '7' WHERE workflow_id = %s", [id])
    sql("UPDATE wfc.event_subscriptions SET subscribe_as_of = now() - interval '1 day' WHERE workflow_id = %s", [id])


def unreadable_subscription(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """A subscription that cannot be read."""
    subscribe(provider, "gone")
    sql("UPDATE wfc.event_subscriptions SET subscribe_as_of = '-infinity'")


def ended_waiter(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The workflow was terminated by a host that removes no subscription."""
    [id] = started(host, "waiting")
    sql("UPDATE wfc.workflows SET status = 'Terminated' WHERE id = %s", [id])


def complete_pointer(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The pointer has ended."""
    [id] = started(host, "waiting")
    sql("UPDATE wfc.execution_pointers SET status = 'Cancelled' WHERE workflow_id = %s", [id])


def waiter_of_unknown_definition(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """No host here knows its definition."""
    other = host_of(provider, WorkflowBuilder("unknown").wait_for("bell", key="k", into=keep).build())
    started(other, "unknown")


def odd_attributes(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The application keeps something of its own where the host keeps the events."""
    [id] = started(host, "waiting")
    sql("UPDATE wfc.execution_pointers SET extension_attributes = '{\"events\": 7}' WHERE workflow_id = %s", [id])


def refusing_waiter(host: WorkflowHost, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """A row whose every update is refused."""
    [id] = started(host, "waiting")
    sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$"
    )
    sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON wfc.workflows FOR EACH ROW"
        f" WHEN (OLD.id = '{id}') EXECUTE FUNCTION public.refuse()"
    )


SPOILED: dict[str, Callable[[WorkflowHost, PostgresPersistenceProvider, Sql], None]] = {
    it.__name__: it
    for it in (
        purged_waiter,
        waiter_without_pointer,
        unreadable_waiter,
        unreadable_subscription,
        ended_waiter,
        complete_pointer,
        waiter_of_unknown_definition,
        odd_attributes,
        refusing_waiter,
    )
}


@pytest.mark.parametrize("kind", SPOILED)
def test_waiter_that_cannot_get_an_event_stops_no_other(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled, kind: str
) -> None:
    """The spoiled subscription is the oldest, and the events of the next minute come through as well."""
    host = host_of(provider, WAITING)
    SPOILED[kind](host, provider, sql)
    ids = started(host, "waiting", 3)
    with host_of(provider, WAITING, lease=0.5) as host:
        host.publish_event("bell", "k", 1)
        assert [it.data for it in settled(ids)] == [{"got": [1]}] * 3
    assert sql(UNPROCESSED) == [(0,)]


def test_hundred_events_for_dead_and_unreadable_waiters_stop_no_others_in_the_poll(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    spoiled = WorkflowBuilder("spoiled").wait_for("bell", key="spoiled").build()
    client = host_of(provider, WAITING, spoiled)
    [unreadable] = started(client, "spoiled")
    [live] = started(client, "waiting")
    sql("UPDATE wfc.execution_pointers SET children = '7' WHERE workflow_id = %s", [unreadable])
    with provider.transaction() as tx:
        for number in range(120):
            tx.create_event_subscription(EventSubscription("gone", 0, "p", "bell", f"dead {number}", now() - DAY))
            tx.create_event(Event("bell", f"dead {number}", event_time=now() - DAY))
            tx.create_event(Event("bell", "spoiled"))
    with host_of(provider, WAITING, spoiled) as host:
        host.publish_event("bell", "k", 1)
        [workflow] = settled([live])
        while sql(UNPROCESSED) != [(0,)]:
            time.sleep(0.01)
    assert workflow.data == {"got": [1]}
    assert sql("SELECT count(*) FROM wfc.scheduled_commands") == [(120,)]


def test_events_that_cannot_be_read_are_logged_once_and_stop_no_others(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    settled: Settled,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [live] = started(host_of(provider, WAITING), "waiting")
    with provider.transaction() as tx:
        for number in range(120):
            tx.create_event(Event("bell", "spoiled", id=f"spoiled-{number}", event_time=now() - DAY))
    sql("UPDATE wfc.events SET event_data = '{\"price\": 1e5000}'")
    with host_of(provider, WAITING) as host:
        host.publish_event("bell", "k", 1)
        settled([live])
        eventually(lambda: all(f"'spoiled-{number}'" in caplog.text for number in range(120)))
        time.sleep(0.3)
    logged = [it.getMessage() for it in caplog.records if it.name == "wfe_postgres.host"]
    assert [sum(f"event 'spoiled-{number}'" in it for it in logged) for number in range(120)] == [1] * 120


@pytest.mark.parametrize("definition", [WAITING, OTHER], ids=lambda it: it.id)
def test_event_reaches_a_workflow_that_the_host_which_handed_it_over_does_not_know(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled, definition: WorkflowDefinition
) -> None:
    """Two kinds of hosts on one store; the one that processes the events has another definition."""
    knows = host_of(provider, definition)
    [id] = started(knows, definition.id)
    stranger = host_of(provider, WorkflowBuilder("stranger").start_with(lambda context: None, name="x").build())
    for number in (1, 2):
        stranger.publish_event("bell", "k", number)
        with stranger:
            while sql(UNPROCESSED) != [(0,)]:
                time.sleep(0.01)
        knows.run_until_idle()
    assert provider.get_workflow_instance(id).data == {"got": [1, 2] if definition is OTHER else [1]}
    assert provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE
