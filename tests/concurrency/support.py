"""Helpers for the concurrency tests: run a function in many threads, and make workflows with a generation number."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import TypeVar

from wfe_postgres import ExecutionPointer, PersistenceProvider, WorkflowInstance, WorkflowSummary
from wfe_postgres.testing.conformance.support import pointer, race, results

_T = TypeVar("_T")


def run_in_threads(count: int, function: Callable[[int], _T]) -> list[_T]:
    """Call `function(0)` to `function(count - 1)` at the same time, each in its own thread, and return the results.

    An exception in a thread is raised here.
    """
    return results(race([partial(function, number) for number in range(count)]))


def milliseconds(timestamp: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down."""
    return int(timestamp.timestamp() * 1000)


def set_generation(instance: WorkflowInstance, generation: int) -> None:
    """Write the generation number into every part of the workflow: its fields, its data, three to seven pointers.

    Consecutive generations share pointer ids, so that a save inserts, updates and deletes.
    """
    instance.version = generation
    instance.data = {"generation": generation}
    instance.description = instance.reference = str(generation)
    instance.execution_pointers = _pointers(generation)


def is_consistent(instance: WorkflowInstance) -> bool:
    """Whether every part of the workflow has the generation that its version names."""
    expected = instance.data, instance.description, instance.reference, instance.execution_pointers
    expected_instance = WorkflowInstance("", 0)
    set_generation(expected_instance, instance.version)
    return expected == (
        expected_instance.data,
        expected_instance.description,
        expected_instance.reference,
        expected_instance.execution_pointers,
    )


def is_consistent_summary(summary: WorkflowSummary) -> bool:
    """Like `is_consistent`, for a summary."""
    return summary.description == summary.reference == str(summary.version)


def save_generations(provider: PersistenceProvider, id: str, generations: Iterable[int]) -> None:
    """Save the workflow once for each generation, unconditionally."""
    for generation in generations:
        instance = provider.get_workflow_instance(id)
        instance.revision = None
        set_generation(instance, generation)
        provider.persist_workflow(instance)


def _pointers(generation: int) -> list[ExecutionPointer]:
    return [
        pointer(f"{generation % 3}-{index // 2}-{index}", step_id=generation, persistence_data=[generation])
        for index in range(3 + generation % 5)
    ]
