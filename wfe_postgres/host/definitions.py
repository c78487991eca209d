"""Workflow definitions: numbered steps. They live in the host's memory, and are never stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Protocol

from wfe_postgres.contract.models import ExecutionPointer, WorkflowInstance
from wfe_postgres.host.context import StepContext
from wfe_postgres.host.errors import ErrorBehavior
from wfe_postgres.host.results import ExecutionResult

StepFunction = Callable[[StepContext], ExecutionResult | None]
"""What runs as a step."""


class StepBody(Protocol):
    """An object that runs as a step."""

    def run(self, context: StepContext, /) -> ExecutionResult | None:
        """Run the step, and say how the workflow goes on."""
        ...


AnyStep = StepFunction | StepBody
"""What a definition takes as a step."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a definition. Its number is the `step_id` of its pointers."""

    id: int
    name: str
    run: StepFunction
    next: int | None = None
    branches: tuple[int, ...] = ()
    """The first step of each branch."""
    on_error: ErrorBehavior | None = None
    compensate_with: int | None = None
    """The step that undoes this one."""
    transaction: bool = True
    is_saga: bool = False
    is_sequential: bool = False
    """Its branches begin one after the other."""
    is_background: bool = False
    """The workflow goes on while its branches run."""


@dataclass(frozen=True, kw_only=True)
class WorkflowDefinition:
    """What a workflow does, made by `WorkflowBuilder`. It cannot be changed."""

    id: str
    version: int
    description: str | None
    on_error: ErrorBehavior
    steps: tuple[Step, ...]

    def pointer(self, step: int, **fields: Any) -> ExecutionPointer:
        """A new pointer at the step of this number."""
        return ExecutionPointer(step, step_name=self.steps[step].name, **fields)

    def step(self, pointer: ExecutionPointer) -> Step:
        """The step that the pointer is at."""
        return self.steps[pointer.step_id]

    def knows(self, pointer: ExecutionPointer) -> bool:
        """False: the definition was changed since the pointer was stored."""
        return pointer.step_id < len(self.steps) and self.step(pointer).name == pointer.step_name

    def instance(self, data: Any = None, **fields: Any) -> WorkflowInstance:
        """A new workflow at its first step, due at once. `data`: any JSON value, `{}` for `None`."""
        return WorkflowInstance(
            self.id,
            self.version,
            {} if data is None else data,
            description=self.description,
            execution_pointers=[self.pointer(0)],
            **fields,
        )


class Definitions(Mapping[tuple[str, int], WorkflowDefinition]):
    """The definitions that a host knows, by id and version."""

    def __init__(self, definitions: Iterable[WorkflowDefinition] = ()) -> None:
        self._known: dict[tuple[str, int], WorkflowDefinition] = {}
        for definition in definitions:
            self.add(definition)

    def add(self, definition: WorkflowDefinition) -> None:
        """Add one. ValueError: another one with its id and version is known, or it is a builder."""
        if hasattr(definition, "build"):
            raise ValueError("a definition is needed, not a WorkflowBuilder: call its build()")
        key = definition.id, definition.version
        if self._known.get(key, definition) is not definition:
            raise ValueError(f"two definitions of {definition.id!r} version {definition.version}")
        self._known = {**self._known, key: definition}  # a poll may be iterating over the other one

    def find(self, id: str, version: int | None = None) -> WorkflowDefinition:
        """The definition, by default of the highest version. LookupError: it is not known."""
        versions = [known for known_id, known in self._known if known_id == id]
        if not versions or (version is not None and version not in versions):
            raise LookupError(f"the host knows no definition {id!r}" + (f" version {version}" if version else ""))
        return self._known[id, max(versions) if version is None else version]

    def __getitem__(self, key: tuple[str, int]) -> WorkflowDefinition:
        return self._known[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def run_of(step: AnyStep) -> StepFunction:
    """What runs the step. ValueError: it is neither callable nor an object with `run`, or it is asynchronous."""
    method = getattr(step, "run", None)
    run: Any = method if callable(method) else step
    if not callable(run) or isinstance(step, type):
        raise ValueError(f"step {name_of(step)!r} is neither callable nor an object with run()")
    if iscoroutinefunction(run) or iscoroutinefunction(getattr(run, "__call__", None)):  # noqa: B004
        raise ValueError(f"step {name_of(step)!r} is asynchronous: call it by asyncio.run() in a step that is not")
    return run  # type: ignore[no-any-return]


def name_of(step: object) -> str:
    """The name of the function, or of the object's class."""
    return getattr(step, "__name__", None) or type(step).__name__
