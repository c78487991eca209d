"""State changes of workflows and pointers, and predicates on them. Does not access the store."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from wfe_postgres import EventSubscription, ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.demo.definitions import Branch, Definition, Delay, Next, Outcome, WaitFor


def apply(
    workflow: WorkflowInstance, definition: Definition, pointer: ExecutionPointer, outcome: Outcome
) -> list[EventSubscription]:
    """Apply the outcome of a step to the workflow; return the subscriptions to save with it."""
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
    """Complete the pointer and append its successor, if any."""
    pointer.status, pointer.active, pointer.end_time = PointerStatus.COMPLETE, False, now()
    successor = definition.successor(pointer)
    if successor is not None:
        workflow.execution_pointers.append(successor)


def is_due(workflow: WorkflowInstance) -> bool:
    """Whether the workflow is due; repeats the condition of the poll on the loaded instance."""
    at = workflow.next_execution
    return workflow.status == WorkflowStatus.RUNNABLE and at is not None and at <= millis(now())


def is_claimed(workflow: WorkflowInstance) -> bool:
    """Whether a host holds an unexpired lease on the workflow."""
    at = workflow.next_execution
    return at is not None and at > millis(now()) and any(map(is_running, workflow.execution_pointers))


def is_running(pointer: ExecutionPointer) -> bool:
    """Whether its step is being run. The parent of branches also stays Running, but has children."""
    return pointer.status == PointerStatus.RUNNING and not pointer.children


def is_ready(pointer: ExecutionPointer) -> bool:
    """Whether the host that holds the lease can run its step. A Running pointer was left by a host that died."""
    return is_running(pointer) or (pointer.status == PointerStatus.PENDING and has_slept(pointer))


def is_over(workflow: WorkflowInstance, pointer: ExecutionPointer) -> bool:
    """Whether its delay or all of its branches have ended."""
    if pointer.status == PointerStatus.RUNNING and pointer.children:
        return workflow.is_branch_complete([*pointer.scope, pointer.id])
    return pointer.status == PointerStatus.SLEEPING and has_slept(pointer)


def is_new_waiter(pointer: ExecutionPointer) -> bool:
    """Whether events published before its subscription have not been checked yet."""
    return pointer.status == PointerStatus.WAITING_FOR_EVENT and pointer.active


def waits_by(pointer: ExecutionPointer, subscription: EventSubscription) -> bool:
    """Whether it waits for this subscription, not for a later one. Pointers of other engines lack the attribute."""
    is_waiting = pointer.status == PointerStatus.WAITING_FOR_EVENT
    newest = pointer.extension_attributes.get("subscription", subscription.id)
    return is_waiting and pointer.id == subscription.execution_pointer_id and newest == subscription.id


def has_slept(pointer: ExecutionPointer) -> bool:
    """Whether `sleep_until` has passed."""
    return pointer.sleep_until is None or millis(pointer.sleep_until) <= millis(now())


def earliest(pointers: Iterable[ExecutionPointer], status: PointerStatus) -> int | None:
    """The earliest `sleep_until` of the pointers with this status, in milliseconds since the Unix epoch."""
    times = [p.sleep_until for p in pointers if p.status == status and p.sleep_until is not None]
    return min(map(millis, times), default=None)


def millis(timestamp: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down."""
    return int(timestamp.timestamp() * 1000)


def now() -> datetime:
    """The current time of the local clock."""
    return datetime.now(UTC)
