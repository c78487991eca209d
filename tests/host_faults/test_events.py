"""Events: each waiter gets its own, whatever becomes of the others and of the events before."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.conftest import Sql
from tests.host_faults.kit.effects import Effects
from tests.host_faults.kit.local import host_of, subscriptions_of
from wfe_postgres import (
    Event,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowStatus,
)
from wfe_postgres.contract.models import now
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowBuilder, WorkflowHost

DAY = timedelta(days=1)
UNPROCESSED = "SELECT count(*) FROM wfc.events WHERE NOT is_processed"


def keep(context: StepContext, event: Event) -> None:
    """Keep what came."""
    context.data.setdefault("got", []).append(event.event_data)


def hear(context: StepContext) -> ExecutionResult:
    """A step of the application's own that waits; it notes the whole event."""
    if context.event is None:
        return ExecutionResult.wait_for_event("bell", "k")
    event = context.event
    context.data["heard"] = [
        event.id, event.event_name, event.event_key, event.event_data, event.event_time.isoformat()
    ]  # fmt: skip
    return ExecutionResult.next()


WAITING = WorkflowBuilder("waiting").wait_for("bell", key="k", into=keep).build()
TWICE = WorkflowBuilder("twice").wait_for("bell", key="k", into=keep).wait_for("bell", key="k", into=keep).build()
LOOP = (
    WorkflowBuilder("loop")
    .while_do(
        lambda context: len(context.data.get("got", [])) < 3,
        lambda branch: branch.wait_for("bell", key="k", into=keep),
    )
    .build()
)
SIBLINGS = (
    WorkflowBuilder("siblings")
    .parallel(
        lambda it: it.wait_for("bell", key="k", into="left"),
        lambda it: it.wait_for("bell", key="k", into="right"),
    )
    .build()
)
OWN = WorkflowBuilder("own").start_with(hear).build()
IN_ORDER = (
    WorkflowBuilder("in order")
    .for_each(lambda context: [1, 2], lambda it: it.wait_for("bell", key="k", into=keep), parallel=False)
    .build()
)


def started(host: WorkflowHost, definition: str, number: int = 1) -> list[str]:
    """Start so many workflows, and run them until they wait."""
    ids = [host.start_workflow(definition) for _ in range(number)]
    host.run_until_idle()
    return ids


def test_event_before_the_wait_is_found(provider: PostgresPersistenceProvider, effects: Effects, sql: Sql) -> None:
    host = host_of(provider, WAITING)
    id = host.start_workflow("waiting")
    host_of(provider).publish_event("bell", "k", 1)
    host_of(provider).run_until_idle()
    assert sql(UNPROCESSED) == [(0,)]
    host.run_until_idle()
    assert provider.get_workflow_instance(id).data == {"got": [1]}


def test_event_before_the_workflow_is_not_found(provider: PostgresPersistenceProvider, effects: Effects) -> None:
    host = host_of(provider, WAITING)
    host.publish_event("bell", "k", 1)
    [id] = started(host, "waiting")
    assert provider.get_workflow_instance(id).execution_pointers[0].status is PointerStatus.WAITING_FOR_EVENT


NEEDED = {TWICE: 2, LOOP: 3, IN_ORDER: 2}


@pytest.mark.parametrize("early", [True, False])
def test_each_wait_needs_an_event_of_its_own(
    provider: PostgresPersistenceProvider, effects: Effects, early: bool
) -> None:
    """Two approvals need two events, and none of two quick ones is lost."""
    host = host_of(provider, *NEEDED)
    ids = {definition: host.start_workflow(definition.id) for definition in NEEDED}
    for number in range(1, 4):
        if not early:
            host.run_until_idle()
            for definition, id in ids.items():
                is_complete = provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE
                assert is_complete == (number > NEEDED[definition]), definition.id
        host.publish_event("bell", "k", number)
    host.run_until_idle()
    for definition, id in ids.items():
        workflow = provider.get_workflow_instance(id)
        assert workflow.status is WorkflowStatus.COMPLETE, definition.id
        assert workflow.data == {"got": list(range(1, NEEDED[definition] + 1))}, definition.id


def test_one_event_is_not_counted_twice(provider: PostgresPersistenceProvider, effects: Effects) -> None:
    host = host_of(provider, *NEEDED)
    ids = [host.start_workflow(definition.id) for definition in NEEDED]
    host.run_until_idle()
    host.publish_event("bell", "k", 1)
    host.run_until_idle()
    for workflow in provider.get_workflow_instances(ids):
        assert (workflow.status, workflow.data) == (WorkflowStatus.RUNNABLE, {"got": [1]})


def test_parallel_siblings_get_the_same_event(provider: PostgresPersistenceProvider, effects: Effects) -> None:
    host = host_of(provider, SIBLINGS)
    [id] = started(host, "siblings")
    host.publish_event("bell", "k", 1)
    host.run_until_idle()
    assert provider.get_workflow_instance(id).data == {"left": 1, "right": 1}


@pytest.mark.parametrize("early", [True, False])
def test_step_sees_the_whole_event_after_it_was_purged(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, early: bool
) -> None:
    """The event is deleted between its delivery and the run of the step."""
    host = host_of(provider, OWN)
    id = host.start_workflow("own")
    event = Event("bell", "k", {"n": 1}, event_time=now() + timedelta(milliseconds=1))
    if not early:
        host.run_until_idle()
    provider.create_event(event)
    sql(
        "CREATE FUNCTION public.purge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.event_published THEN DELETE FROM wfc.events; END IF; RETURN NEW; END $$;"
    )
    sql(
        "CREATE TRIGGER purge AFTER INSERT OR UPDATE ON wfc.execution_pointers FOR EACH ROW"
        " EXECUTE FUNCTION public.purge()"
    )
    host.run_until_idle()
    heard = provider.get_workflow_instance(id).data["heard"]
    assert heard == [event.id, "bell", "k", {"n": 1}, event.event_time.isoformat()]
    assert sql("SELECT count(*) FROM wfc.events") == [(0,)]


def test_event_published_twice_under_one_id_is_one_event(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    """A webhook that comes twice, at the same time and again later."""
    host = host_of(provider, TWICE)
    [id] = started(host, "twice")
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: host.publish_event("bell", "k", 1, event_id="webhook-1"), range(8)))
    host.run_until_idle()
    assert host.publish_event("bell", "k", 2, event_id="webhook-1") == "webhook-1"
    host.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert ids == ["webhook-1"] * 8
    assert workflow.data == {"got": [1]}
    assert subscriptions_of(sql, workflow) == 1


def test_event_wakes_a_waiter_of_a_suspended_workflow_when_that_is_resumed(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    host = host_of(provider, WAITING)
    [id] = started(host, "waiting")
    assert host.suspend_workflow(id)
    host.publish_event("bell", "k", 1)
    host.run_until_idle()
    assert provider.get_workflow_instance(id).status is WorkflowStatus.SUSPENDED
    assert host.resume_workflow(id)
    host.run_until_idle()
    assert provider.get_workflow_instance(id).data == {"got": [1]}
