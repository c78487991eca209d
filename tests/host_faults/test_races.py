"""Things that happen at the same time: events during steps and timeouts, children that end, several hosts."""

import random
import time

import psycopg

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, eventually, note, note_in_transaction, wait_at
from tests.host_faults.kit.local import errors_of, host_of, subscriptions_of
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition

WAITERS = runs(30, 400)


def gate(context: StepContext) -> None:
    """A step that lasts until the test opens the gate."""
    note(context, "gate")
    wait_at("gate")


def after(context: StepContext) -> None:
    """A step that ends."""
    note(context, "after")


def late(context: StepContext) -> None:
    """What follows a timeout."""
    note(context, "late")


BUSY = (
    WorkflowBuilder("busy")
    .parallel(
        lambda it: it.wait_for("bell", key="k", into="bell").then(after),
        lambda it: it.start_with(gate),
    )
    .build()
)


def test_event_that_comes_while_another_step_of_the_workflow_runs_is_given_afterwards(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    with host_of(provider, BUSY, lease=60.0) as host:
        id = host.start_workflow("busy")
        effects.wait_for("gate")
        host.publish_event("bell", "k", 1)
        time.sleep(0.5)
        effects.open("gate")
        [workflow] = settled([id])
    assert workflow.data == {"bell": 1}
    assert effects.order() == ["gate", "after"]
    assert errors_of(sql, workflow) == []


def test_event_that_comes_while_another_step_runs_is_given_when_that_host_is_killed(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    host = start_host(busy)
    id = host_of(provider, BUSY).start_workflow("busy")
    effects.wait_for("gate")
    host_of(provider, BUSY).publish_event("bell", "k", 1)
    time.sleep(0.2)
    host.kill()
    effects.open("gate")
    start_host(busy)
    [workflow] = settled([id])
    assert workflow.data == {"bell": 1}
    assert effects.counts() == {"gate": 2, "after": 1}


def gate_and_two_waits() -> WorkflowDefinition:
    """A step that lasts until the test opens the gate, then two waits for one key."""
    builder = WorkflowBuilder("two").start_with(gate)
    return builder.wait_for("bell", key="k", into="first").wait_for("bell", key="k", into="second").build()


def test_host_that_is_killed_between_the_begin_of_a_wait_and_the_look_leaves_it_its_earliest_event(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
) -> None:
    client = host_of(provider, gate_and_two_waits())
    id = client.start_workflow("two")
    provider.mark_event_processed(client.publish_event("bell", "k", "one"))
    host = start_host(gate_and_two_waits)
    effects.wait_for("gate")
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE wfc.events IN ACCESS EXCLUSIVE MODE")  # the look waits for it
        effects.open("gate")
        eventually(lambda: subscriptions_of(sql, provider.get_workflow_instance(id)))
        host.kill()
    client.publish_event("bell", "k", "two")
    start_host(gate_and_two_waits)
    [workflow] = settled([id])
    assert workflow.data == {"first": "one", "second": "two"}


def busy() -> WorkflowDefinition:
    """The definition, for a process."""
    return BUSY


def impatient() -> WorkflowDefinition:
    """Waits 0.3 seconds."""
    return (
        WorkflowBuilder("impatient")
        .wait_for(
            "bell",
            key=lambda context: context.workflow.id,
            into="bell",
            timeout=0.3,
            on_timeout=lambda branch: branch.start_with(late),
        )
        .then(after)
        .build()
    )


def test_wait_ends_with_its_event_or_its_timeout_but_not_with_both(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    """Two hosts; each event comes at about the time of the timeout."""
    chance = random.Random(3)
    for _ in range(2):
        start_host(impatient, poll_interval=0.02, lease=30)
    client = host_of(provider, impatient())
    ids = [client.start_workflow("impatient") for _ in range(WAITERS)]
    due = time.monotonic() + 0.3
    for id in ids:
        time.sleep(max(0.0, due - time.monotonic()) if chance.random() < 0.2 else chance.uniform(0, 0.02))
        client.publish_event("bell", id, "ding")
    for workflow in settled(ids):
        expected = {"after": 1} if "bell" in workflow.data else {"after": 1, "late": 1}
        assert effects.counts(workflow.id) == expected
        assert subscriptions_of(sql, workflow) == 0
        assert errors_of(sql, workflow) == []


def child() -> WorkflowDefinition:
    """A child with one transactional effect."""
    return WorkflowBuilder("child").start_with(be_born).build()


def be_born(context: StepContext) -> None:
    """The child's step."""
    note_in_transaction(context, "born")
    context.data["done"] = True


def parent() -> WorkflowDefinition:
    """Waits for two children, one after the other."""
    return (
        WorkflowBuilder("parent")
        .sub_workflow("child", into="first")
        .sub_workflow("child", into="second")
        .then(after)
        .build()
    )


def test_each_parent_has_its_children_once_when_hosts_are_killed(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    chance = random.Random(4)
    hosts = [start_host(parent, child, transactional=True, lease=0.6) for _ in range(2)]
    client = host_of(provider, parent(), child())
    ids = [client.start_workflow("parent") for _ in range(runs(16, 200))]
    for _ in range(runs(4, 60)):
        effects.wait_for_more(2)
        time.sleep(chance.uniform(0.0, 0.2))
        victim = chance.randrange(2)
        hosts[victim].kill()
        hosts[victim] = start_host(parent, child, transactional=True, lease=0.6)
    workflows = settled(ids, timeout=runs(40, 600))
    assert [it.data for it in workflows] == [{"first": {"done": True}, "second": {"done": True}}] * len(ids)
    children = sql("SELECT root_workflow_id, count(*) FROM wfc.workflows WHERE definition_id = 'child' GROUP BY 1")
    assert dict(children) == dict.fromkeys(ids, 2)
    assert effects.counts()["born"] == 2 * len(ids)


def test_parent_of_a_child_that_is_terminated_goes_on(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    """By the application, while the child's step runs."""
    gated = WorkflowBuilder("child").start_with(gate).build()
    with host_of(provider, parent(), gated) as host:
        id = host.start_workflow("parent")
        effects.wait_for("gate")
        [(child_id,)] = sql("SELECT id FROM wfc.workflows WHERE root_workflow_id = %s", [id])
        assert provider.terminate_workflow(child_id)
        effects.open("gate")
        while not errors_of(sql, provider.get_workflow_instance(id)):
            time.sleep(0.01)
        assert host.terminate_workflow(id)
    assert "SubWorkflowTerminatedError" in errors_of(sql, provider.get_workflow_instance(id))[0]
    assert provider.get_workflow_instance(child_id).status is WorkflowStatus.TERMINATED
