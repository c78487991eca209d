"""What suspending, resuming and terminating change in an instance, and the event that ends a child workflow."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid5

from wfe_postgres.contract.errors import ConcurrencyError
from wfe_postgres.contract.models import Event, PointerStatus, WorkflowInstance, WorkflowStatus, now

COMPLETED_EVENT = "wfe.workflow.completed"
"""The name of the event that a parent waits for; its key is the child's id."""

UNFINISHED = (WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED)
"""The statuses that a workflow can be terminated from."""

_NAMESPACE = UUID("8b1a3ab6-9d0c-4c0f-8e5e-3c2d4f6a7b10")


class _Workflows(Protocol):
    def get_workflow_instance(self, id: str) -> WorkflowInstance: ...

    def persist_workflow(self, instance: WorkflowInstance) -> None: ...


def suspend(instance: WorkflowInstance) -> bool:
    """Suspend a Runnable instance. False: it is in another status, and unchanged."""
    return _move(instance, (WorkflowStatus.RUNNABLE,), WorkflowStatus.SUSPENDED)


def resume(instance: WorkflowInstance, *, skip_failed: bool = False) -> bool:
    """Make a Suspended instance Runnable and due now. False: it is in another status, and unchanged."""
    if not _move(instance, (WorkflowStatus.SUSPENDED,), WorkflowStatus.RUNNABLE):
        return False
    instance.next_execution = (now() - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    for pointer in instance.execution_pointers:
        if pointer.status is PointerStatus.RUNNING:
            pointer.status = PointerStatus.PENDING
        elif pointer.status is PointerStatus.FAILED:
            pointer.active = True
            pointer.status = PointerStatus.SKIPPED if skip_failed else PointerStatus.PENDING
            if not skip_failed:
                pointer.retry_count, pointer.end_time = 0, None
    return True


def terminate(instance: WorkflowInstance) -> bool:
    """Terminate an instance that has not ended. False: it has, and is unchanged."""
    if not _move(instance, UNFINISHED, WorkflowStatus.TERMINATED):
        return False
    instance.complete_time = now()
    return True


def save_changed(store: _Workflows, id: str, change: Callable[[WorkflowInstance], bool]) -> bool:
    """Load the workflow, change it and save it, as often as another save comes between; False: it was not changed."""
    while True:
        instance = store.get_workflow_instance(id)
        if not change(instance):
            return False
        with suppress(ConcurrencyError):
            store.persist_workflow(instance)
            return True


def completion_event_id(workflow_id: str) -> str:
    """The id of the event that says that this workflow has ended: the same one whoever creates it."""
    return str(uuid5(_NAMESPACE, workflow_id))


def completion_event(instance: WorkflowInstance) -> Event:
    """The event that says that this workflow has ended, with its status and its data."""
    data = {"status": instance.status.value, "data": instance.data}
    return Event(COMPLETED_EVENT, instance.id, data, id=completion_event_id(instance.id))


def _move(instance: WorkflowInstance, sources: tuple[WorkflowStatus, ...], target: WorkflowStatus) -> bool:
    if instance.status not in sources:
        return False
    instance.status = target
    return True
