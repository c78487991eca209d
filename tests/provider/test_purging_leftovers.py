"""Purges by family, of errors, and of what belongs to nothing."""

import pytest

from tests.conftest import Sql
from wfe_postgres import ExecutionError, PostgresPersistenceProvider, SerializationError, WorkflowStatus
from wfe_postgres.contract.models import CommandName
from wfe_postgres.testing.conformance.support import at, command, event, subscription, workflow

Provider = PostgresPersistenceProvider

RUNNABLE, SUSPENDED, COMPLETE, TERMINATED = WorkflowStatus


@pytest.mark.parametrize("root", WorkflowStatus)
def test_family_is_purged_when_its_root_has_ended(provider: Provider, sql: Sql, root: WorkflowStatus) -> None:
    provider.create_new_workflow(workflow(id="root", status=root))
    for id, status in (("child", COMPLETE), ("other child", TERMINATED)):
        it = workflow(id=id, status=status, complete_time=at(0), root_workflow_id="root")
        provider.create_new_workflow(it)
    provider.create_new_workflow(workflow(id="alone", status=COMPLETE, complete_time=at(0)))
    has_ended = root in (COMPLETE, TERMINATED)
    assert provider.purge_workflows(COMPLETE, at(1), batch_size=1) == 1 + has_ended
    assert provider.purge_workflows(TERMINATED, at(1)) == has_ended
    kept = [("root",)] if has_ended else [("child",), ("other child",), ("root",)]
    assert sql("SELECT id FROM wfc.workflows ORDER BY id") == kept


@pytest.mark.parametrize("member", WorkflowStatus)
def test_family_is_purged_when_its_members_have_ended(provider: Provider, sql: Sql, member: WorkflowStatus) -> None:
    """A child can outlive its root, for example when the root was terminated."""
    for id, root, status in (("root", None, COMPLETE), ("child", "root", COMPLETE), ("last", "root", member)):
        provider.create_new_workflow(workflow(id=id, status=status, complete_time=at(0), root_workflow_id=root))
    removed = provider.purge_workflows(COMPLETE, at(1), batch_size=1)
    assert removed == {COMPLETE: 3, TERMINATED: 2}.get(member, 0)
    assert provider.purge_workflows(TERMINATED, at(1)) == (member is TERMINATED)
    assert sql("SELECT count(*) FROM wfc.workflows") == [(3 if member in (RUNNABLE, SUSPENDED) else 0,)]


def test_child_of_a_root_that_is_gone_is_purged(provider: Provider) -> None:
    it = workflow(status=COMPLETE, complete_time=at(0), root_workflow_id="gone")
    provider.create_new_workflow(it)
    root = workflow(id="self", status=COMPLETE, complete_time=at(0), root_workflow_id="self")
    provider.create_new_workflow(root)
    assert provider.purge_workflows(COMPLETE, at(1)) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_old_errors_are_purged(provider: Provider, batch_size: int) -> None:
    provider.persist_errors([ExecutionError("w", "p", f"{second}", error_time=at(second)) for second in range(5)])
    assert provider.purge_errors(at(3), batch_size=batch_size) == 3
    assert [it.message for it in provider.get_execution_errors()] == ["4", "3"]
    assert provider.purge_errors(at(3)) == 0


def test_naive_time_is_refused(provider: Provider) -> None:
    for call in (provider.purge_errors, provider.delete_orphans):
        with pytest.raises(SerializationError, match="older_than"):
            call(at(0).replace(tzinfo=None))


def store_children(provider: Provider, owner: str, second: int) -> None:
    """A subscription, an error and a command of a workflow, and a command of an event, all of this time."""
    provider.create_event_subscription(
        subscription(id=f"{owner} {second}", workflow_id=owner, subscribe_as_of=at(second))
    )
    provider.persist_errors([ExecutionError(owner, "p", "failed", error_time=at(second))])
    for name in CommandName:
        provider.schedule_command(command(owner, second, name))


def test_orphans_are_deleted_and_everything_else_stays(provider: Provider, sql: Sql) -> None:
    """Those of a stored workflow or event stay, younger ones, and commands of an application's own."""
    provider.create_new_workflow(workflow(id="stored"))
    provider.create_event(event(id="stored"))
    store_children(provider, "stored", 0)
    store_children(provider, "gone", 0)
    store_children(provider, "young", 5)
    sql("INSERT INTO wfc.scheduled_commands (command_name, data, execute_time) VALUES ('MyOwn', 'gone', 0)")
    assert provider.delete_orphans(at(5)) == 4
    assert provider.delete_orphans(at(5)) == 0
    assert sql("SELECT workflow_id FROM wfc.event_subscriptions ORDER BY 1") == [("stored",), ("young",)]
    assert sql("SELECT workflow_id FROM wfc.execution_errors ORDER BY 1") == [("stored",), ("young",)]
    commands = sql("SELECT command_name, data FROM wfc.scheduled_commands ORDER BY 1, 2")
    kept = [
        (name.value, data)
        for name in (CommandName.PROCESS_EVENT, CommandName.PROCESS_WORKFLOW)
        for data in ("stored", "young")
    ]
    assert commands == [("MyOwn", "gone"), *kept]
