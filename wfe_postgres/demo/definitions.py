"""Workflow definitions for the host in `host.py`: steps, their context and their outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wfe_postgres import ExecutionPointer, WorkflowInstance

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Context:
    """The argument of a step. Changes of `data` are stored only if the step returns."""

    workflow: WorkflowInstance
    pointer: ExecutionPointer
    resources: Any = None
    """The resources that `Host.transaction` yields for the step, for example a session of the application."""

    @property
    def data(self) -> Any:
        """The data of the workflow."""
        return self.workflow.data

    @property
    def item(self) -> Any:
        """The item of this branch of a fan-out."""
        return self.pointer.context_item


@dataclass(frozen=True)
class Next:
    """The step is complete; continue with the next one. `result` is stored as the pointer's outcome."""

    result: Any = None


@dataclass(frozen=True)
class Branch:
    """Run `step` once for each item; continue with the next step when all branches have ended."""

    step: "Step"
    items: Sequence[Any]


@dataclass(frozen=True)
class WaitFor:
    """Run this step again when a matching event exists; the pointer then has `event_published` and `event_data`.

    Events with `event_time >= since` match, including those published before the step waits.
    """

    event_name: str
    event_key: str
    since: datetime = ALWAYS


@dataclass(frozen=True)
class Delay:
    """The step is complete; continue with the next one after a delay in seconds."""

    seconds: float


Outcome = Next | Branch | WaitFor | Delay
Step = Callable[[Context], Outcome]


@dataclass(frozen=True)
class Definition:
    """A workflow definition: `steps` run in sequence, `branch_steps` are the steps used in a `Branch`.

    The index of a step in `steps + branch_steps` is stored as its `step_id`, so reordering requires a new version.
    """

    id: str
    version: int
    steps: tuple[Step, ...]
    branch_steps: tuple[Step, ...] = ()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """All steps, indexed by `step_id`."""
        return self.steps + self.branch_steps

    def pointer(self, step_id: int) -> ExecutionPointer:
        """Create a pointer to the step."""
        return ExecutionPointer(step_id, step_name=self.all_steps[step_id].__name__)

    def successor(self, pointer: ExecutionPointer) -> ExecutionPointer | None:
        """Create a pointer to the next step; `None` after the last step and after the step of a branch."""
        following = pointer.step_id + 1
        if pointer.scope or following >= len(self.steps):
            return None
        successor = self.pointer(following)
        successor.predecessor_id = pointer.id
        return successor

    def children(self, parent: ExecutionPointer, branch: Branch) -> list[ExecutionPointer]:
        """Create one pointer for each item of the branch."""
        step_id = self.all_steps.index(branch.step)
        children = [self.pointer(step_id) for _ in branch.items]
        for child, item in zip(children, branch.items, strict=True):
            child.predecessor_id = parent.id
            child.scope = [*parent.scope, parent.id]
            child.context_item = item
        return children
