"""Runs workflows in memory, with a clock that jumps."""

from collections.abc import Callable
from typing import Any

from wfe_postgres import PointerStatus, WorkflowInstance
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock


class World:
    """One store, one clock, and one host."""

    def __init__(self, *definitions: WorkflowDefinition, **options: Any) -> None:
        self.provider: InMemoryPersistenceProvider = InMemoryPersistenceProvider()
        self.clock: ManualClock = ManualClock()
        self.host: WorkflowHost = WorkflowHost(self.provider, definitions, clock=self.clock, **options)

    def run(self, data: Any = None, *, advance: bool = True) -> WorkflowInstance:
        """A new workflow of the first definition, after everything that can be done."""
        id = self.host.start_workflow(next(iter(self.host.definitions))[0], {"log": []} | (data or {}))
        return self.go_on(id, advance=advance)

    def go_on(self, id: str, *, advance: bool = True) -> WorkflowInstance:
        """The workflow after everything that can be done."""
        self.host.run_until_idle(advance=advance)
        return self.provider.get_workflow_instance(id)


def note(text: str) -> Callable[[StepContext], None]:
    """A step that writes its name, and the item it works on, into the log of the workflow."""

    def step(context: StepContext) -> None:
        context.data["log"].append(text if context.item is None else f"{text} {context.item}")

    step.__name__ = text
    return step


def fail(times: int, text: str = "fail") -> Callable[[StepContext], None]:
    """A step that fails so many times."""
    left = [times]

    def step(context: StepContext) -> None:
        context.data["log"].append("of a step that fails, which is not stored")
        if left[0]:
            left[0] -= 1
            raise RuntimeError("failed on purpose")
        context.data["log"][-1] = text

    step.__name__ = text
    return step


def branch(*steps: Callable[[StepContext], Any], **options: Any) -> Callable[[WorkflowBuilder], WorkflowBuilder]:
    """A branch of these steps."""

    def build(builder: WorkflowBuilder) -> WorkflowBuilder:
        for step in steps:
            builder.then(step, **options)
        return builder

    return build


def statuses(instance: WorkflowInstance) -> dict[str | None, PointerStatus]:
    """The status of the last pointer of each step."""
    return {pointer.step_name: pointer.status for pointer in instance.execution_pointers}
