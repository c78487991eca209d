"""What the pointers of a workflow say: which one is ready, which were before another, and when something is due."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from wfe_postgres.contract.models import FINISHED_POINTERS, ExecutionPointer, PointerStatus, WorkflowInstance
from wfe_postgres.host.definitions import Step, WorkflowDefinition

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EVENTS = "events"
"""In `extension_attributes`: id and time of each event that the pointer has been given."""
COMPENSATES = "compensates"
"""In `extension_attributes`: the id of the pointer that this one undoes."""


def milliseconds(time: datetime) -> int:
    """The time in milliseconds since the Unix epoch, rounded up, so that what is due then is due."""
    return -((EPOCH - time) // timedelta(milliseconds=1))


def due_at_once(now: datetime) -> int:
    """The time in milliseconds since the Unix epoch, rounded down: what is due then is due in a poll at this time."""
    return (now - EPOCH) // timedelta(milliseconds=1)


def is_finished(pointer: ExecutionPointer) -> bool:
    """True unless there is something to do: an active Skipped pointer is one after which the workflow goes on."""
    status = pointer.status
    return status in FINISHED_POINTERS and not (status is PointerStatus.SKIPPED and pointer.active)


def parents(instance: WorkflowInstance) -> set[str]:
    """The ids of all pointers that contain an unfinished one."""
    return {id for pointer in instance.execution_pointers if not is_finished(pointer) for id in pointer.scope}


def next_ready(instance: WorkflowInstance, now: datetime) -> ExecutionPointer | None:
    """The first pointer whose step can be run."""
    ready = [it for it in instance.execution_pointers if _is_ready(it, now)]
    waiting = parents(instance) if any(it.children for it in ready) else ()
    return next((it for it in ready if it.id not in waiting), None)


def running(instance: WorkflowInstance) -> list[ExecutionPointer]:
    """The pointers that a host has claimed: Running, and not just containing others."""
    waiting = parents(instance)
    return [it for it in instance.execution_pointers if it.status is PointerStatus.RUNNING and it.id not in waiting]


def alarm(instance: WorkflowInstance) -> datetime | None:
    """When the next sleeping or waiting pointer is to be run."""
    waiting = parents(instance)
    times = [it.sleep_until for it in instance.execution_pointers if it.id not in waiting and _has_alarm(it)]
    return min((time for time in times if time is not None), default=None)


def next_due(instance: WorkflowInstance, now: datetime) -> int | None:
    """When the workflow is due, in milliseconds since the Unix epoch: at once, if a pointer is ready, or later."""
    if next_ready(instance, now) is not None:
        return due_at_once(now)
    due = alarm(instance)
    return None if due is None else milliseconds(due)


def descendants(instance: WorkflowInstance, pointer: ExecutionPointer) -> list[ExecutionPointer]:
    """All pointers within this one, at any depth."""
    return [it for it in instance.execution_pointers if pointer.id in it.scope]


def received(pointer: ExecutionPointer) -> set[str]:
    """The ids of the events that the pointer has been given."""
    return {event["id"] for event in pointer.extension_attributes.get(EVENTS, ())}


def received_before(instance: WorkflowInstance, definition: WorkflowDefinition, pointer: ExecutionPointer) -> set[str]:
    """The ids of the events that this pointer, or one before it, has been given.

    Before it are its predecessors and those of its containers, with what they contain, and earlier iterations.
    """
    before = History(instance, definition).before(pointer)
    return received(pointer).union(*map(received, before))


class History:
    """Which pointers ended before another one began."""

    def __init__(self, instance: WorkflowInstance, definition: WorkflowDefinition) -> None:
        self._instance = instance
        self._definition = definition
        self._by_id = {pointer.id: pointer for pointer in instance.execution_pointers}

    def before(self, pointer: ExecutionPointer) -> Iterator[ExecutionPointer]:
        """Those before the pointer, and before each pointer that contains it."""
        for id in (*reversed(pointer.scope), pointer.id):
            if (level := self._by_id.get(id)) is None:
                continue
            *chain, first = [level, *self._predecessors(level)]
            for predecessor in [*chain, first][1:]:
                yield from self._with_content(predecessor)
            yield from self._earlier_iterations(first)

    def _step(self, pointer: ExecutionPointer) -> Step | None:
        """`None`: this host does not know the definition."""
        return self._definition.step(pointer) if self._definition.knows(pointer) else None

    def _predecessors(self, pointer: ExecutionPointer) -> Iterator[ExecutionPointer]:
        """The pointers before this one in its branch, the latest first."""
        before = self._by_id.get(pointer.predecessor_id or "")
        while before is not None and before.scope == pointer.scope:
            yield before
            before = self._by_id.get(before.predecessor_id or "")

    def _with_content(self, pointer: ExecutionPointer) -> Iterator[ExecutionPointer]:
        yield pointer
        step = self._step(pointer)
        if step is None or not step.is_background:
            yield from descendants(self._instance, pointer)

    def _earlier_iterations(self, first: ExecutionPointer) -> Iterator[ExecutionPointer]:
        """What was run in the same container before the iteration that begins with this pointer."""
        container = self._by_id.get(first.scope[-1]) if first.scope else None
        step = None if container is None else self._step(container)
        if container is None or step is None or not step.is_sequential:
            return
        later = container.children[container.children.index(first.id) :] if first.id in container.children else []
        for pointer in self._instance.execution_pointers:
            if pointer.scope == first.scope:
                *_, begin = [pointer, *self._predecessors(pointer)]
                if begin.id not in later:  # it has ended, and with it what it scheduled
                    yield pointer
                    yield from descendants(self._instance, pointer)


def _has_alarm(pointer: ExecutionPointer) -> bool:
    return pointer.status in (PointerStatus.SLEEPING, PointerStatus.WAITING_FOR_EVENT)


def _is_ready(pointer: ExecutionPointer, now: datetime) -> bool:
    if pointer.status is PointerStatus.PENDING:
        return pointer.active
    return _has_alarm(pointer) and pointer.sleep_until is not None and pointer.sleep_until <= now
