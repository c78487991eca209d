"""From a program to workflow definitions: every step leaves its token in the workflow's data."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tests.host_properties import programs as nodes
from tests.host_properties.programs import DEFAULT_RETRIES, Branch, Node
from wfe_postgres.host import (
    Compensate,
    Retry,
    StepContext,
    Suspend,
    Terminate,
    WorkflowBuilder,
    WorkflowDefinition,
)

LONG_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
TIMEOUT = 100_000.0
"""Seconds: far longer than all delays, retries and leases of a test."""


class ScriptedError(Exception):
    """A step fails because the program says so."""


class Builder:
    """Makes the definitions of one program. `tag` is a part of all their names and of the events' keys.

    `before` is called before each run of a step, `after` with the context and the token of each effect.
    """

    def __init__(
        self,
        tag: str,
        before: Callable[[], None],
        after: Callable[[StepContext, str], None] = lambda context, token: None,
    ) -> None:
        self._tag = tag
        self._before = before
        self._after = after
        self.definitions: list[WorkflowDefinition] = []
        self.programs: dict[int, Branch] = {}

    def build(self, program: Branch, id: int = 0) -> str:
        """Build the definition of a program, and those of its sub-workflows; return its id."""
        name = definition_id(self._tag, id)
        builder = WorkflowBuilder(name, on_error=Retry(interval=1, max_retries=DEFAULT_RETRIES))
        self._add(builder, program)
        self.definitions.append(builder.build())
        self.programs[id] = program
        return name

    def _branch(self, program: Branch) -> Callable[[WorkflowBuilder], Any]:
        return lambda builder: self._add(builder, program)

    def _add(self, builder: WorkflowBuilder, program: Branch) -> WorkflowBuilder:
        for node in program:
            getattr(self, f"_{type(node).__name__.lower()}")(builder, node)
        return builder

    def _effect(self, kind: str, node: Node, fails: Callable[[StepContext], bool] = lambda context: False) -> Any:
        def effect(context: StepContext) -> None:
            self._before()
            if fails(context):
                context.data["log"].append("what a failed step has begun to change")
                raise ScriptedError(token_of(kind, node, context))
            self._record(context, token_of(kind, node, context))

        return effect

    def _record(self, context: StepContext, token: str) -> None:
        context.data["log"].append(token)
        self._after(context, token)

    def _marker(self, builder: WorkflowBuilder, kind: str, node: Node) -> WorkflowBuilder:
        return builder.then(self._effect(kind, node), name=f"{kind}{node.id}")

    def _step(self, builder: WorkflowBuilder, node: nodes.Step) -> None:
        compensation = None
        if node.compensation is not None:
            compensation = self._effect("c", node, partial(_fails_first, node.compensation))
        builder.then(
            self._effect("s", node, partial(_fails_first, node.failures)),
            name=f"s{node.id}",
            on_error=_behaviour(node.on_error),
            compensate_with=compensation,
        )

    def _delay(self, builder: WorkflowBuilder, node: nodes.Delay) -> None:
        builder.delay(node.seconds)

    def _waitfor(self, builder: WorkflowBuilder, node: nodes.WaitFor) -> None:
        def received(context: StepContext, event: Any) -> None:
            self._record(context, f"{token_of('w', node, context)}={event.event_data}")

        builder.wait_for(
            "happened",
            key=lambda context: event_key(self._tag, node.key),
            as_of=LONG_BEFORE if node.from_the_start else None,
            into=received,
            timeout=TIMEOUT if node.timed else None,
            on_timeout=self._branch(node.on_timeout) if node.on_timeout else None,
        )

    def _if(self, builder: WorkflowBuilder, node: nodes.If) -> None:
        builder.if_do(lambda context: node.holds, self._branch(node.body))

    def _decide(self, builder: WorkflowBuilder, node: nodes.Decide) -> None:
        cases = {value: self._branch(body) for value, body in enumerate(node.cases)}
        builder.decide(lambda context: node.value, cases, self._branch(node.otherwise) if node.otherwise else None)

    def _while(self, builder: WorkflowBuilder, node: nodes.While) -> None:
        builder.while_do(lambda context: not self._begun(node, context), self._marked(node))

    def _recur(self, builder: WorkflowBuilder, node: nodes.Recur) -> None:
        builder.recur(1, self._marked(node), until=lambda context: self._begun(node, context))

    def _begun(self, node: nodes.While | nodes.Recur, context: StepContext) -> bool:
        return count_of("m", node, context) >= node.times

    def _marked(self, node: nodes.While | nodes.Recur | nodes.Saga) -> Callable[[WorkflowBuilder], Any]:
        return lambda builder: self._add(self._marker(builder, "m", node), node.body)

    def _foreach(self, builder: WorkflowBuilder, node: nodes.ForEach) -> None:
        def items(context: StepContext) -> list[str]:
            return [f"{path_of(context)}/{index}" for index in range(node.items)]

        builder.for_each(items, self._branch(node.body), parallel=node.parallel)

    def _parallel(self, builder: WorkflowBuilder, node: nodes.Parallel) -> None:
        builder.parallel(*map(self._branch, node.branches))

    def _saga(self, builder: WorkflowBuilder, node: nodes.Saga) -> None:
        def fails(context: StepContext) -> bool:
            return count_of("m", node, context) <= node.fails

        def body(builder: WorkflowBuilder) -> None:
            self._marked(node)(builder)
            builder.then(self._effect("x", node, fails), name=f"x{node.id}", on_error=Retry(max_retries=0))

        builder.saga(body, on_error=_behaviour(node.on_error))

    def _schedule(self, builder: WorkflowBuilder, node: nodes.Schedule) -> None:
        builder.schedule(node.seconds, self._branch(node.body))

    def _end(self, builder: WorkflowBuilder, node: nodes.End) -> None:
        builder.end_workflow()

    def _subworkflow(self, builder: WorkflowBuilder, node: nodes.SubWorkflow) -> None:
        def data(context: StepContext) -> dict[str, Any]:
            return new_data(path_of(context), context.workflow.id)

        builder.sub_workflow(self.build(node.body, node.id), data=data, into=f"child{node.id}")
        self._marker(builder, "e", node)


def definition_id(tag: str, id: int) -> str:
    """The id of the definition of a sub-workflow's node; 0: of the program itself."""
    return f"{tag}-{id}"


def new_data(path: str, parent: str) -> dict[str, Any]:
    """The data that a workflow begins with."""
    return {"log": [], "path": path, "parent": parent}


def event_key(tag: str, key: str) -> str:
    """The key of an event of this test."""
    return f"{tag}-{key}"


def path_of(context: StepContext) -> str:
    """The item of the innermost `for_each`, which names all outer ones; in a sub-workflow, first that of its parent."""
    return str(context.data["path"] if context.item is None else context.item)


def token_of(kind: str, node: Node, context: StepContext) -> str:
    """What a step leaves in the log."""
    return f"{kind}{node.id}@{path_of(context)}"


def count_of(kind: str, node: Node, context: StepContext) -> int:
    """How often the log has it."""
    log: list[str] = context.data["log"]
    return log.count(token_of(kind, node, context))


def _fails_first(times: int, context: StepContext) -> bool:
    return context.pointer.retry_count < times


def _behaviour(on_error: int | str | None) -> Any:
    if isinstance(on_error, int):
        return Retry(interval=1, max_retries=on_error)
    return {None: None, "suspend": Suspend(), "terminate": Terminate(), "compensate": Compensate()}[on_error]
