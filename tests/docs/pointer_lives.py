"""Workflows whose pointers go through every status."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wfe_postgres import ExecutionPointer, PointerStatus, WorkflowInstance
from wfe_postgres.host import ExecutionResult, Retry, StepContext, Suspend, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock

Changes = set[tuple[str, str]]


def in_parts(context: StepContext) -> ExecutionResult:
    """Runs again at once, then sleeps, then fails once, then is complete."""
    done = context.persistence_data or 0
    if done == 2 and context.attempt == 1:
        raise ValueError
    if done == 2:
        return ExecutionResult.next()
    return ExecutionResult.sleep(1, done + 1) if done else ExecutionResult.persist(1)


def refuse(_: StepContext) -> None:
    raise ValueError


def work(_: StepContext) -> None:
    """Does nothing."""


parts = WorkflowBuilder("parts").start_with(in_parts, on_error=Retry(interval=1)).wait_for("paid", key="1")
late = WorkflowBuilder("late").wait_for("never", key="1", timeout=1, on_timeout=lambda b: b.start_with(work))
failing = WorkflowBuilder("failing", on_error=Suspend()).start_with(refuse)
saga = WorkflowBuilder("saga", on_error=Retry(max_retries=0)).saga(
    lambda b: b.parallel(
        lambda b: b.start_with(work, compensate_with=work).then(work, compensate_with=work).then(refuse),
        lambda b: b.wait_for("never", key="2"),
        lambda b: b.delay(60),
        lambda b: b.start_with(work).then(work).then(work),
    )
)


def changes_of_status() -> tuple[Changes, Changes]:
    """The changes of pointers' statuses: those that were seen in the host, and those between two saves."""
    clock = ManualClock()
    provider = InMemoryPersistenceProvider(clock=clock)
    saves = provider._store.workflows = Saves()
    with seen_changes() as seen:
        host = WorkflowHost(provider, [it.build() for it in (parts, late, failing, saga)], clock=clock)
        for name in ("parts", "late", "saga"):
            host.start_workflow(name)
        failed = [host.start_workflow("failing") for _ in range(2)]
        host.run_until_idle(advance=True)
        host.publish_event("paid", "1")
        for number, id in enumerate(failed):
            host.resume_workflow(id, skip_failed=bool(number))
        host.run_until_idle(advance=True)
    return seen, saves.changes


class Saves(dict[str, WorkflowInstance]):
    """The stored workflows. `changes`: of a pointer's status, from one save to the next."""

    def __init__(self) -> None:
        self.changes: Changes = set()

    def __setitem__(self, id: str, new: WorkflowInstance) -> None:
        old = {it.id: it.status for it in self[id].execution_pointers} if id in self else {}
        for pointer in new.execution_pointers:
            self.changes.add((old.get(pointer.id, "[*]"), pointer.status))
        self.changes = {(before, after) for before, after in self.changes if before != after}
        super().__setitem__(id, new)


@contextmanager
def seen_changes() -> Iterator[Changes]:
    """The assignments to the status of a pointer that has one."""
    seen: Changes = set()

    def note(pointer: ExecutionPointer, name: str, value: Any) -> None:
        before = pointer.__dict__.get(name)
        if isinstance(before, PointerStatus) and before != value:
            seen.add((before, value))
        object.__setattr__(pointer, name, value)

    ExecutionPointer.__setattr__ = note  # type: ignore[assignment, method-assign]
    try:
        yield seen
    finally:
        del ExecutionPointer.__setattr__
