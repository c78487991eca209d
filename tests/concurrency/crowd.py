"""What the tests of races share: crowds of threads, and workflows whose generation shows in every part of them."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from wfe_postgres import ExecutionPointer, PersistenceProvider, WorkflowInstance, WorkflowSummary
from wfe_postgres.testing.conformance.support import pointer, race, results

_T = TypeVar("_T")


def together(count: int, function: Callable[[int], _T]) -> list[_T]:
    """What `function(0)` to `function(count - 1)` return, called at the same moment in a thread each.

    None of them may raise.
    """
    return results(race([partial(function, number) for number in range(count)]))


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch, rounded down."""
    return int(moment.timestamp() * 1000)


def become(instance: WorkflowInstance, generation: int) -> None:
    """Make the workflow of this generation in every part: its fields, its data, three to seven pointers.

    Neighbouring generations share pointer ids, so that a save inserts, updates and deletes.
    """
    instance.version = generation
    instance.data = {"generation": generation}
    instance.description = instance.reference = str(generation)
    instance.execution_pointers = _pointers(generation)


def is_one_generation(instance: WorkflowInstance) -> bool:
    """Whether all of the workflow is of the generation that its version names."""
    expected = instance.data, instance.description, instance.reference, instance.execution_pointers
    whole = WorkflowInstance("", 0)
    become(whole, instance.version)
    return expected == (whole.data, whole.description, whole.reference, whole.execution_pointers)


def is_one_generation_in_short(summary: WorkflowSummary) -> bool:
    """The same of a summary."""
    return summary.description == summary.reference == str(summary.version)


def save_generations(provider: PersistenceProvider, id: str, generations: range) -> None:
    """Save the workflow once in each generation, over whatever is there."""
    for generation in generations:
        instance = provider.get_workflow_instance(id)
        instance.revision = None
        become(instance, generation)
        provider.persist_workflow(instance)


def _pointers(generation: int) -> list[ExecutionPointer]:
    return [
        pointer(f"{generation % 3}-{index // 2}-{index}", step_id=generation, persistence_data=[generation])
        for index in range(3 + generation % 5)
    ]
