"""What a failed step makes of its workflow: a retry, a compensated saga, or an end. It knows no store."""

import traceback
from datetime import timedelta

from wfe_postgres.contract.models import ExecutionError, ExecutionPointer, PointerStatus, WorkflowStatus
from wfe_postgres.contract.services import LifecycleEventType
from wfe_postgres.host.errors import ErrorBehavior, FreshStartError, LostTryError, Retry, Suspend, Terminate
from wfe_postgres.host.executor import LOST_TRIES, Executor
from wfe_postgres.host.pointers import COMPENSATES, descendants, is_finished, running

_LONGEST_MESSAGE = 8_000  # characters
_FRAMES = 5
_NOT_OF_THE_STEP = tuple(
    f"wfe_postgres.{package}." for package in ("host", "ext", "repositories", "codec", "connections")
)


def message_of(error: BaseException) -> str:
    """The exception's type and text, and the last frames of the step, as text that can be stored."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException as broken:
        text = f"{type(error).__name__}: (its text cannot be made: {type(broken).__name__})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_the_step(frame)]
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-_FRAMES:]]
    whole = "\n".join([text[:_LONGEST_MESSAGE], *lines])
    return whole.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _is_of_the_step(frame: traceback.FrameSummary) -> bool:
    module = frame.filename.replace("\\", "/").replace("/", ".")
    return not any(package in module for package in _NOT_OF_THE_STEP)


def fail(executor: Executor, pointer: ExecutionPointer, error: BaseException) -> None:
    """The step has failed: store why, and do what its error behavior says."""
    pointer.retry_count += 1
    pointer.extension_attributes.pop(LOST_TRIES, None)
    if isinstance(error, FreshStartError):
        pointer.persistence_data = None
        pointer.event_name = pointer.event_key = pointer.event_data = None
        pointer.event_published = False
    report(executor, pointer, error)
    _react(executor, pointer, behavior_of(executor, pointer))


def report(executor: Executor, pointer: ExecutionPointer, error: BaseException) -> None:
    """An `ExecutionError` and an Error event are stored and published with the next save."""
    message = message_of(error)
    executor.changes.errors.append(ExecutionError(executor.instance.id, pointer.id, message, error_time=executor.now))
    executor.report(LifecycleEventType.ERROR, pointer, message)


def behavior_of(executor: Executor, pointer: ExecutionPointer) -> ErrorBehavior:
    """The step's own error behavior, or that of the definition."""
    return executor.definition.step(pointer).on_error or executor.definition.on_error


def lose(executor: Executor, max_lost: int, reason: str) -> list[ExecutionPointer]:
    """Repeat the steps whose process was killed, or lost its lease; returns their pointers.

    A step to which that has happened `max_lost` times in a row has failed.
    """
    lost = running(executor.instance)
    for pointer in lost:
        tries = pointer.extension_attributes.get(LOST_TRIES, 0) + 1
        pointer.status = PointerStatus.PENDING
        error = LostTryError(f"{reason}, in the step (try {tries} of {max_lost})")
        if tries < max_lost:
            pointer.extension_attributes[LOST_TRIES] = tries
            report(executor, pointer, error)
        else:
            fail(executor, pointer, error)
    return lost


def suspend_changed(executor: Executor) -> bool:
    """Suspend the workflow if its definition was changed under it. False: it was not."""
    unknown = [
        pointer
        for pointer in executor.instance.execution_pointers
        if not (is_finished(pointer) or executor.definition.knows(pointer))
    ]
    for pointer in unknown:
        known = executor.definition.steps[pointer.step_id : pointer.step_id + 1]
        now = f"is {known[0].name!r}" if known else "does not exist"
        error = LookupError(
            f"the definition was changed under a running workflow: step {pointer.step_id} was {pointer.step_name!r} "
            f"and {now} in the definition that this host knows"
        )
        report(executor, pointer, error)
    if unknown:
        _stop(executor)
    return bool(unknown)


def suspend_failed(executor: Executor) -> bool:
    """Suspend a workflow that was made Runnable but still has a Failed step: it was not resumed. False: it has none."""
    failed = any(it.status is PointerStatus.FAILED for it in executor.instance.execution_pointers)
    if failed:
        _stop(executor)
    return failed


def _react(executor: Executor, pointer: ExecutionPointer, behavior: ErrorBehavior) -> None:
    delay = behavior.delay(pointer.retry_count) if isinstance(behavior, Retry) else None
    pointer.active = delay is not None
    if delay is not None:
        pointer.status = PointerStatus.SLEEPING
        pointer.sleep_until = executor.now + timedelta(seconds=delay)
        return
    pointer.status, pointer.end_time = PointerStatus.FAILED, executor.now
    saga = None if isinstance(behavior, (Suspend, Terminate)) else _saga_around(executor, pointer)
    if saga is not None:
        _compensate(executor, saga, pointer)
    elif isinstance(behavior, Terminate):
        executor.end(WorkflowStatus.TERMINATED)
    else:
        _stop(executor)


def _stop(executor: Executor) -> None:
    executor.instance.status = WorkflowStatus.SUSPENDED
    executor.report(LifecycleEventType.SUSPENDED)


def _saga_around(executor: Executor, pointer: ExecutionPointer) -> ExecutionPointer | None:
    """The innermost saga that contains the pointer; none for a compensation, which a person has to look at."""
    if _is_compensation(pointer):
        return None
    by_id = {it.id: it for it in executor.instance.execution_pointers}
    outwards = [by_id[id] for id in reversed(pointer.scope) if id in by_id]
    return next((it for it in outwards if executor.definition.step(it).is_saga), None)


def _is_compensation(pointer: ExecutionPointer) -> bool:
    return COMPENSATES in pointer.extension_attributes


def _compensate(executor: Executor, saga: ExecutionPointer, failed: ExecutionPointer) -> None:
    """Undo what was completed in the saga, one step after the other, in reverse order; then the saga is run again."""
    instance, definition = executor.instance, executor.definition
    inside = descendants(instance, saga)
    failed.status = PointerStatus.COMPENSATED
    executor.cancel(inside)
    completed = [it for it in inside if it.status is PointerStatus.COMPLETE and not _is_compensation(it)]
    completed.sort(key=lambda it: it.end_time or executor.now)
    before = failed
    for pointer in reversed(completed):
        undo = definition.step(pointer).compensate_with
        if undo is None:
            pointer.status = PointerStatus.COMPENSATED
            continue
        before = definition.pointer(
            undo,
            scope=[*saga.scope, saga.id],
            predecessor_id=before.id,
            context_item=pointer.context_item,
            status=PointerStatus.PENDING if before is failed else PointerStatus.PENDING_PREDECESSOR,
            extension_attributes={COMPENSATES: pointer.id},
        )
        instance.execution_pointers.append(before)
    saga.persistence_data = {"children_active": True, "failed": True}
    executor.settle()
