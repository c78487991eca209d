"""What a workflow is made of, for the host in `host.py`: steps, what they are given and what they answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wfe_postgres import ExecutionPointer, WorkflowInstance

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Context:
    """What a step is given. It may change `data`: the change is kept if the step returns, and only then."""

    workflow: WorkflowInstance
    pointer: ExecutionPointer
    resources: Any = None
    """What `Host.transaction` yields for the step: a session of the application's, say."""

    @property
    def data(self) -> Any:
        """The workflow's own state."""
        return self.workflow.data

    @property
    def item(self) -> Any:
        """The item that this branch of a fan-out works on."""
        return self.pointer.context_item


@dataclass(frozen=True)
class Next:
    """The step is done, go on with the one after it; `result` is kept as the pointer's outcome."""

    result: Any = None


@dataclass(frozen=True)
class Branch:
    """Run `step` once for each item, and go on with the next one when all of them have ended."""

    step: "Step"
    items: Sequence[Any]


@dataclass(frozen=True)
class WaitFor:
    """Run this step again when there is such an event: the pointer then has `event_published` and `event_data`.

    Events from `since` on count, also those that came before anybody waited for them.
    """

    event_name: str
    event_key: str
    since: datetime = ALWAYS


@dataclass(frozen=True)
class Delay:
    """The step is done, go on with the one after it in so many seconds."""

    seconds: float


Outcome = Next | Branch | WaitFor | Delay
Step = Callable[[Context], Outcome]


@dataclass(frozen=True)
class Definition:
    """A workflow: `steps` are run one after the other, `branch_steps` are those that a `Branch` names.

    The place of a step in `steps + branch_steps` is stored as its `step_id`, so another order is another version.
    """

    id: str
    version: int
    steps: tuple[Step, ...]
    branch_steps: tuple[Step, ...] = ()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """Every step, at the place that is its `step_id`."""
        return self.steps + self.branch_steps

    def pointer(self, step_id: int) -> ExecutionPointer:
        """A new pointer to the step."""
        return ExecutionPointer(step_id, step_name=self.all_steps[step_id].__name__)

    def successor(self, pointer: ExecutionPointer) -> ExecutionPointer | None:
        """A new pointer to what follows; `None` after the last step, and after the only one of a branch."""
        following = pointer.step_id + 1
        if pointer.scope or following >= len(self.steps):
            return None
        successor = self.pointer(following)
        successor.predecessor_id = pointer.id
        return successor

    def children(self, parent: ExecutionPointer, branch: Branch) -> list[ExecutionPointer]:
        """A new pointer for each of the branch's items."""
        step_id = self.all_steps.index(branch.step)
        children = [self.pointer(step_id) for _ in branch.items]
        for child, item in zip(children, branch.items, strict=True):
            child.predecessor_id = parent.id
            child.scope = [*parent.scope, parent.id]
            child.context_item = item
        return children
