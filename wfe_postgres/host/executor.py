"""What the result of a step makes of its workflow: a function of instance, definition, result and time.

The executor knows no store. It changes the instance that it is given, and says in `Changes` what else is to be stored
in the same transaction.
"""

from datetime import datetime, timedelta
from typing import Any

from wfe_postgres.contract.models import (
    Event,
    EventSubscription,
    ExecutionPointer,
    PointerStatus,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType
from wfe_postgres.contract.status_changes import COMPLETED_EVENT, completion_event
from wfe_postgres.host.changes import Changes
from wfe_postgres.host.definitions import WorkflowDefinition
from wfe_postgres.host.pointers import (
    COMPENSATES,
    EPOCH,
    EVENTS,
    descendants,
    due_at_once,
    is_finished,
    milliseconds,
    next_due,
    next_ready,
    parents,
    received_before,
)
from wfe_postgres.host.results import ExecutionResult, Wait

_FRESH = 5 / 6
"""The part of a lease that is left when it has only begun."""
SUBSCRIPTION = "subscription_id"
"""In `extension_attributes`: the subscription by which the pointer waits."""
LOST_TRIES = "lost_tries"
"""In `extension_attributes`: how often in a row the process that ran the step was killed, or lost its lease."""


class Executor:
    """Changes one instance. `now`: the time of all changes."""

    def __init__(self, instance: WorkflowInstance, definition: WorkflowDefinition, now: datetime) -> None:
        self.instance: WorkflowInstance = instance
        self.definition: WorkflowDefinition = definition
        self.now: datetime = now
        self.changes: Changes = Changes()

    # What a step returned

    def apply(self, pointer: ExecutionPointer, result: ExecutionResult) -> None:
        """Go on after the step as its result says. Raises `ValueError` for a result that the step cannot have."""
        pointer.extension_attributes.pop(LOST_TRIES, None)
        pointer.persistence_data = result.persistence_data
        if result.child is not None:
            self.changes.children.append(result.child)
        if result.items:
            self._begin_branches(pointer, result)
        if result.proceeds:
            self.complete(pointer, result.value)
        else:
            self._keep(pointer, result)
        if result.ends_workflow:
            self.cancel(self.instance.execution_pointers)
        self.settle()

    def complete(self, pointer: ExecutionPointer, outcome: Any = None) -> None:
        """The pointer is Complete, and what follows it becomes ready."""
        pointer.status, pointer.active, pointer.end_time = PointerStatus.COMPLETE, False, self.now
        pointer.outcome = outcome
        self.report(LifecycleEventType.STEP_COMPLETED, pointer)
        self._follow(pointer)

    def settle(self) -> None:
        """A container of which all branches have ended is ready to be run again."""
        running = [it for it in self.instance.execution_pointers if it.status is PointerStatus.RUNNING]
        waiting = parents(self.instance) if running else ()
        for pointer in running:
            if pointer.id not in waiting:
                pointer.status = PointerStatus.PENDING

    def cancel(self, pointers: list[ExecutionPointer]) -> None:
        """Those that have not finished become Cancelled."""
        for pointer in pointers:
            if not is_finished(pointer):
                self.end_wait(pointer)
                pointer.status, pointer.active, pointer.end_time = PointerStatus.CANCELLED, False, self.now

    def _keep(self, pointer: ExecutionPointer, result: ExecutionResult) -> None:
        """The step is run again: after a time, with an event, after its branches, or at once.

        A step that polls for months has its retries anew after each success. One that begins a wait or a branch has
        not: it fails by what comes of that.
        """
        if result.wait is not None:
            self._subscribe(pointer, result.wait)
            return
        if result.items:
            pointer.status = PointerStatus.RUNNING
            return
        pointer.retry_count = 0
        if result.sleep_time is not None or result.wake_time is not None:
            pointer.status = PointerStatus.SLEEPING
            pointer.sleep_until = result.wake_time or self.now + timedelta(seconds=result.sleep_time or 0)
        else:
            pointer.status = PointerStatus.PENDING

    def _begin_branches(self, pointer: ExecutionPointer, result: ExecutionResult) -> None:
        branches = self.definition.step(pointer).branches
        if not branches:
            raise ValueError("the step returned a branch, and has none: give it branches=")
        chosen = branches if result.branch_indices is None else [branches[index] for index in result.branch_indices]
        for item in result.items:
            for first in chosen:
                child = self.definition.pointer(
                    first,
                    scope=[*pointer.scope, pointer.id],
                    predecessor_id=pointer.id,
                    context_item=pointer.context_item if item is None else item,
                )
                pointer.children.append(child.id)
                self.instance.execution_pointers.append(child)

    def _follow(self, pointer: ExecutionPointer) -> None:
        following = self.definition.step(pointer).next
        pointers = self.instance.execution_pointers
        if following is not None:
            after = self.definition.pointer(
                following, scope=list(pointer.scope), predecessor_id=pointer.id, context_item=pointer.context_item
            )
            pointers.append(after)
        compensated = pointer.extension_attributes.get(COMPENSATES)
        for other in pointers:
            if other.status is PointerStatus.PENDING_PREDECESSOR and other.predecessor_id == pointer.id:
                other.status = PointerStatus.PENDING
            if other.id == compensated:
                other.status = PointerStatus.COMPENSATED

    # Events

    def _subscribe(self, pointer: ExecutionPointer, wait: Wait) -> None:
        own = wait.event_name == COMPLETED_EVENT  # its key is unique, and it can have been timed by another clock
        since = EPOCH if own else wait.as_of or self.instance.create_time
        subscription = EventSubscription(
            self.instance.id,
            pointer.step_id,
            pointer.id,
            wait.event_name,
            wait.event_key,
            since,
            subscription_data=wait.subscription_data,
        )
        self.changes.subscriptions.append(subscription)
        pointer.extension_attributes[SUBSCRIPTION] = subscription.id
        pointer.status, pointer.active = PointerStatus.WAITING_FOR_EVENT, False
        pointer.event_name, pointer.event_key = wait.event_name, wait.event_key
        pointer.event_published, pointer.event_data = False, None
        pointer.sleep_until = None if wait.timeout is None else self.now + timedelta(seconds=wait.timeout)

    def accepts(self, pointer: ExecutionPointer, event: Event) -> bool:
        """Whether the pointer waits, and neither it nor one before it has been given the event."""
        if pointer.status is not PointerStatus.WAITING_FOR_EVENT:
            return False
        return event.id not in received_before(self.instance, self.definition, pointer)

    def deliver(self, pointer: ExecutionPointer, event: Event) -> None:
        """Give the event to a pointer that accepts it. The workflow is due now."""
        self.end_wait(pointer)
        pointer.status, pointer.active, pointer.sleep_until = PointerStatus.PENDING, True, None
        pointer.event_published, pointer.event_data = True, event.event_data
        given = pointer.extension_attributes.setdefault(EVENTS, [])
        given.append({"id": event.id, "time": event.event_time.isoformat()})
        if self.instance.status is WorkflowStatus.RUNNABLE:
            self.instance.next_execution = due_at_once(self.now)

    def end_wait(self, pointer: ExecutionPointer) -> None:
        """The pointer's subscription, if it has one, is removed with the next save."""
        subscription = pointer.extension_attributes.pop(SUBSCRIPTION, None)
        if subscription is not None:
            self.changes.ended_subscriptions.append(subscription)

    # What is next

    def claim(self, lease: float) -> ExecutionPointer | None:
        """The next pointer, Running under a lease of so many seconds; `None`: the workflow rests, or has ended."""
        self._go_on_after_skipped()
        if self.instance.status is not WorkflowStatus.RUNNABLE:
            return None
        pointer = next_ready(self.instance, self.now)
        if pointer is None:
            self.rest()
            return None
        self.end_wait(pointer)
        pointer.status, pointer.active, pointer.sleep_until = PointerStatus.RUNNING, True, None
        pointer.start_time = pointer.start_time or self.now
        self.hold(lease)
        self.report(LifecycleEventType.STEP_STARTED, pointer)
        return pointer

    def hold(self, lease: float) -> None:
        """No other host takes the workflow before the lease has expired.

        One that has only begun is kept: a save that leaves `next_execution` as it is changes no index.
        """
        left = (self.instance.next_execution or 0) - milliseconds(self.now)
        if not _FRESH * lease <= left / 1000 <= lease:
            self.instance.next_execution = milliseconds(self.now + timedelta(seconds=lease))

    def rest(self) -> None:
        """Nothing is running: the workflow is due at its next alarm or, if all pointers have finished, Complete."""
        if all(map(is_finished, self.instance.execution_pointers)):
            self.end(WorkflowStatus.COMPLETE)
            return
        self.instance.next_execution = next_due(self.instance, self.now)

    def end(self, status: WorkflowStatus) -> None:
        """The workflow is Complete or Terminated. A child's parent is told."""
        for pointer in self.instance.execution_pointers:
            self.end_wait(pointer)
        self.instance.status, self.instance.complete_time = status, self.now
        self.instance.next_execution = None
        if self.instance.root_workflow_id is not None:
            event = completion_event(self.instance)
            event.event_time = self.now
            self.changes.events.append(event)
        complete = status is WorkflowStatus.COMPLETE
        self.report(LifecycleEventType.COMPLETED if complete else LifecycleEventType.TERMINATED)

    def _go_on_after_skipped(self) -> None:
        for pointer in list(self.instance.execution_pointers):
            if pointer.status is PointerStatus.SKIPPED and pointer.active:
                self.cancel(descendants(self.instance, pointer))
                pointer.active, pointer.end_time = False, self.now
                self._follow(pointer)
        self.settle()

    def report(self, type: LifecycleEventType, pointer: ExecutionPointer | None = None, message: str = "") -> None:
        """An event that is published after the next save."""
        self.changes.lifecycle.append(LifecycleEvent.of(type, self.instance, self.now, pointer, message))
