"""Writes, each with a query that shows whether it is stored."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tests.protocol.calls import Call
from wfe_postgres import ExecutionError, PointerStatus, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.commands import Recorder
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider


@dataclass(frozen=True)
class Write:
    """A write of an object that is identified by `tag`, and the query that shows whether it is stored."""

    prepare: Callable[[Provider, str], Call]
    query: str
    """SQL with `%(tag)s` that returns one row: `before` the write and `afterwards`."""
    before: tuple[Any, ...]
    afterwards: tuple[Any, ...]


def changed(provider: Provider, tag: str) -> WorkflowInstance:
    """A loaded workflow with changed data and changed, removed and added pointers."""
    created(provider, workflow(pointer("a"), pointer("b"), pointer("c"), id=tag, name=tag))
    instance = provider.get_workflow_instance(tag)
    instance.data = {"saved": True}
    instance.execution_pointers[0].outcome = "changed"
    instance.execution_pointers[1:] = [pointer("b"), pointer("d"), pointer("e")]
    return instance


def save(provider: Provider, tag: str) -> Call:
    """Save with the loaded revision."""
    return partial(provider.persist_workflow, changed(provider, tag))


def unconditional_save(provider: Provider, tag: str) -> Call:
    """Save without a revision, which overwrites any stored revision."""
    return partial(provider.persist_workflow, replace(changed(provider, tag), revision=None))


def save_with_subscriptions(provider: Provider, tag: str) -> Call:
    """Save with two new subscriptions."""
    waiting = [subscription(id=f"{tag}-{number}", workflow_id=tag) for number in range(2)]
    return partial(provider.persist_workflow_with_subscriptions, changed(provider, tag), waiting)


def create(provider: Provider, tag: str) -> Call:
    """Create a workflow with three pointers."""
    instance = workflow(pointer("a"), pointer("b"), pointer("c"), id=tag, name=tag)
    return partial(provider.create_new_workflow, instance)


def delete(provider: Provider, tag: str) -> Call:
    """Delete a workflow with two pointers."""
    instance = workflow(pointer("a"), pointer("b"), id=tag, name=tag)
    return partial(provider.delete_workflow, created(provider, instance).id)


def mark_processed(provider: Provider, tag: str) -> Call:
    """Mark a stored event as processed."""
    return partial(provider.mark_event_processed, provider.create_event(event(id=tag)))


def mark_unprocessed(provider: Provider, tag: str) -> Call:
    """Mark a processed event as unprocessed."""
    return partial(provider.mark_event_unprocessed, provider.create_event(event(id=tag, is_processed=True)))


def set_token(provider: Provider, tag: str) -> Call:
    """Set the token of an open subscription; the call must return True."""
    id = provider.create_event_subscription(subscription(id=tag))

    def take() -> None:
        assert provider.set_subscription_token(id, "mine", "worker", from_now(600))

    return take


def clear_token(provider: Provider, tag: str) -> Call:
    """Clear the token of a subscription."""
    held = subscription(id=tag, external_token="mine", external_worker_id="worker")
    return partial(provider.clear_subscription_token, provider.create_event_subscription(held), "mine")


def terminate(provider: Provider, tag: str) -> Call:
    """Terminate a stored subscription."""
    return partial(provider.terminate_subscription, provider.create_event_subscription(subscription(id=tag)))


def process_command(provider: Provider, tag: str) -> Call:
    """Process the only stored command; its handler must run once."""
    provider.schedule_command(command(tag))

    def handle() -> None:
        recorder = Recorder()
        assert provider.process_commands(at(1), recorder) == 1
        assert len(recorder.seen) == 1

    return handle


def persist_errors_of(provider: Provider, tag: str) -> Call:
    """Store three errors."""
    return partial(provider.persist_errors, [ExecutionError(tag, "pointer", f"failed {number}") for number in range(3)])


def renew(provider: Provider, tag: str) -> Call:
    """Renew a workflow; its revision is the one that the call returned."""
    instance = created(provider, workflow(id=tag, next_execution=1))
    assert instance.revision is not None
    revision = instance.revision

    def move() -> None:
        instance.revision = provider.renew_workflow(tag, revision, 2)

    return move


def set_status(method: Callable[[Provider, str], bool], status: WorkflowStatus, tag: str, provider: Provider) -> Call:
    """Change the status of a child workflow with a failed pointer, a subscription and a command; the call must return
    True."""
    failed = pointer("a", status=PointerStatus.FAILED)
    provider.create_new_workflow(workflow(failed, id=tag, status=status, root_workflow_id="root"))
    provider.create_event_subscription(subscription(workflow_id=tag))
    provider.schedule_command(command(tag, 1_000_000))

    def change() -> None:
        assert method(provider, tag)

    return change


def status_write(method: Callable[[Provider, str], bool], status: WorkflowStatus, afterwards: tuple[Any, ...]) -> Write:
    """A change of status, and what it does to the pointer, the subscription, the command and the parent's event."""
    before = (status.value, "Failed", 1, 1, 0)
    return Write(lambda provider, tag: set_status(method, status, tag, provider), STATUS, before, afterwards)


STATUS = """
    SELECT w.status, (SELECT status FROM wfc.execution_pointers WHERE workflow_id = w.id),
           (SELECT count(*) FROM wfc.event_subscriptions WHERE workflow_id = w.id),
           (SELECT count(*) FROM wfc.scheduled_commands WHERE data = w.id),
           (SELECT count(*) FROM wfc.events WHERE event_key = w.id)
      FROM wfc.workflows w WHERE w.id = %(tag)s
"""
SAVED = """
    SELECT w.data = '{"saved": true}',
           array_agg(p.id || CASE p.outcome WHEN '"changed"' THEN ' changed' ELSE '' END ORDER BY p.position),
           (SELECT count(*) FROM wfc.event_subscriptions WHERE workflow_id = w.id)
      FROM wfc.workflows w JOIN wfc.execution_pointers p ON p.workflow_id = w.id WHERE w.id = %(tag)s GROUP BY w.id
"""
CREATED = """
    SELECT (SELECT count(*) FROM wfc.workflows WHERE id = %(tag)s),
           (SELECT count(*) FROM wfc.execution_pointers WHERE workflow_id = %(tag)s)
"""
HELD = "SELECT external_token, external_worker_id FROM wfc.event_subscriptions WHERE id = %(tag)s"
MARKED = "SELECT is_processed FROM wfc.events WHERE id = %(tag)s"
AS_CREATED = (False, ["a", "b", "c"])
AS_SAVED = (True, ["a changed", "b", "d", "e"])


def counted(table: str, column: str) -> str:
    """SQL that counts the rows with the tag in this column."""
    return f"SELECT count(*) FROM wfc.{table} WHERE {column} = %(tag)s"


WRITES = {
    "create_new_workflow": Write(create, CREATED, (0, 0), (1, 3)),
    "persist_workflow": Write(save, SAVED, (*AS_CREATED, 0), (*AS_SAVED, 0)),
    "persist_workflow, unconditional": Write(unconditional_save, SAVED, (*AS_CREATED, 0), (*AS_SAVED, 0)),
    "persist_workflow_with_subscriptions": Write(save_with_subscriptions, SAVED, (*AS_CREATED, 0), (*AS_SAVED, 2)),
    "renew_workflow": Write(renew, "SELECT next_execution FROM wfc.workflows WHERE id = %(tag)s", (1,), (2,)),
    "suspend_workflow": status_write(
        Provider.suspend_workflow, WorkflowStatus.RUNNABLE, ("Suspended", "Failed", 1, 1, 0)
    ),
    "resume_workflow": status_write(
        Provider.resume_workflow, WorkflowStatus.SUSPENDED, ("Runnable", "Pending", 1, 1, 0)
    ),
    "terminate_workflow": status_write(
        Provider.terminate_workflow, WorkflowStatus.RUNNABLE, ("Terminated", "Failed", 0, 0, 1)
    ),
    "delete_workflow": Write(delete, CREATED, (1, 2), (0, 0)),
    "create_event": Write(lambda it, tag: partial(it.create_event, event(id=tag)), counted("events", "id"), (0,), (1,)),
    "mark_event_processed": Write(mark_processed, MARKED, (False,), (True,)),
    "mark_event_unprocessed": Write(mark_unprocessed, MARKED, (True,), (False,)),
    "create_event_subscription": Write(
        lambda it, tag: partial(it.create_event_subscription, subscription(id=tag)),
        counted("event_subscriptions", "id"),
        (0,),
        (1,),
    ),
    "set_subscription_token": Write(set_token, HELD, (None, None), ("mine", "worker")),
    "clear_subscription_token": Write(clear_token, HELD, ("mine", "worker"), (None, None)),
    "terminate_subscription": Write(terminate, counted("event_subscriptions", "id"), (1,), (0,)),
    "schedule_command": Write(
        lambda it, tag: partial(it.schedule_command, command(tag, 1_000_000)),
        counted("scheduled_commands", "data"),
        (0,),
        (1,),
    ),
    "process_commands": Write(process_command, counted("scheduled_commands", "data"), (1,), (0,)),
    "persist_errors": Write(persist_errors_of, counted("execution_errors", "workflow_id"), (0,), (3,)),
    "next_definition_sequence": Write(
        lambda it, tag: partial(it.next_definition_sequence, tag),
        counted("definition_sequences", "definition_id"),
        (0,),
        (1,),
    ),
}
