"""How a workflow moves: what a step's answer does to the pointers, and what their fields say. No store in here."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from wfe_postgres import EventSubscription, ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.demo.definitions import Branch, Definition, Delay, Next, Outcome, WaitFor


def apply(
    workflow: WorkflowInstance, definition: Definition, pointer: ExecutionPointer, outcome: Outcome
) -> list[EventSubscription]:
    """Write into the workflow what its step answered; return the subscription to be saved with it, if any."""
    match outcome:
        case Next(result):
            pointer.outcome = result
            finish(workflow, definition, pointer)
        case Branch(items=[]):
            finish(workflow, definition, pointer)
        case Branch():
            children = definition.children(pointer, outcome)
            pointer.children = [child.id for child in children]
            workflow.execution_pointers += children
        case Delay(seconds):
            pointer.status, pointer.sleep_until = PointerStatus.SLEEPING, now() + timedelta(seconds=seconds)
        case WaitFor(name, key, since):
            waiter = EventSubscription(workflow.id, pointer.step_id, pointer.id, name, key, since)
            pointer.status, pointer.event_published = PointerStatus.WAITING_FOR_EVENT, False
            pointer.event_name, pointer.event_key = name, key
            pointer.extension_attributes["subscription"] = waiter.id
            return [waiter]
    return []


def finish(workflow: WorkflowInstance, definition: Definition, pointer: ExecutionPointer) -> None:
    """The pointer has ended; what follows it becomes ready."""
    pointer.status, pointer.active, pointer.end_time = PointerStatus.COMPLETE, False, now()
    successor = definition.successor(pointer)
    if successor is not None:
        workflow.execution_pointers.append(successor)


def is_due(workflow: WorkflowInstance) -> bool:
    """Whether a host may take the workflow: the poll's own question, asked again of what was loaded."""
    at = workflow.next_execution
    return workflow.status == WorkflowStatus.RUNNABLE and at is not None and at <= millis(now())


def is_claimed(workflow: WorkflowInstance) -> bool:
    """Whether a host is running one of its steps, or died in it and the lease is not over."""
    at = workflow.next_execution
    return at is not None and at > millis(now()) and any(map(is_running, workflow.execution_pointers))


def is_running(pointer: ExecutionPointer) -> bool:
    """Whether its step is being run. (The parent of branches stays Running, too, but has children.)"""
    return pointer.status == PointerStatus.RUNNING and not pointer.children


def is_ready(pointer: ExecutionPointer) -> bool:
    """Whether its step can be run by the host that holds the workflow: Running is what a dead host left."""
    return is_running(pointer) or (pointer.status == PointerStatus.PENDING and has_slept(pointer))


def is_over(workflow: WorkflowInstance, pointer: ExecutionPointer) -> bool:
    """Whether what it waited for has come: the end of its delay, or of all its branches."""
    if pointer.status == PointerStatus.RUNNING and pointer.children:
        return workflow.is_branch_complete([*pointer.scope, pointer.id])
    return pointer.status == PointerStatus.SLEEPING and has_slept(pointer)


def is_new_waiter(pointer: ExecutionPointer) -> bool:
    """Whether it may have missed an event that was there before its subscription."""
    return pointer.status == PointerStatus.WAITING_FOR_EVENT and pointer.active


def waits_by(pointer: ExecutionPointer, subscription: EventSubscription) -> bool:
    """Whether it waits by this subscription, and not by a later one. (Other engines' pointers don't name theirs.)"""
    is_waiting = pointer.status == PointerStatus.WAITING_FOR_EVENT
    newest = pointer.extension_attributes.get("subscription", subscription.id)
    return is_waiting and pointer.id == subscription.execution_pointer_id and newest == subscription.id


def has_slept(pointer: ExecutionPointer) -> bool:
    """Whether the time that it was to sleep is over."""
    return pointer.sleep_until is None or millis(pointer.sleep_until) <= millis(now())


def earliest(pointers: Iterable[ExecutionPointer], status: PointerStatus) -> int | None:
    """When the first of those with this status has slept (milliseconds since the epoch), if any sleeps."""
    times = [p.sleep_until for p in pointers if p.status == status and p.sleep_until is not None]
    return min(map(millis, times), default=None)


def millis(moment: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down."""
    return int(moment.timestamp() * 1000)


def now() -> datetime:
    """The present moment by this machine's clock."""
    return datetime.now(UTC)
