"""The reference interpreter: whether what was observed of a workflow is a possible run of its program.

A node is interpreted by a generator. It yields the set of labels of what can happen next in it, is sent the label of
what happened, and returns when the node is complete. A label is the token of an effect in the workflow's log, or, with
a "?" in front, something that leaves no token (a step fails for good, the workflow ends). So a branch is the total
order of its steps, parallel branches interleave freely, and a failure is an exception that ends what runs beside it.

A token is `<kind><number of the node>@<path of items>`: s a step, c its compensation, w a wait (with `=<event>`), m
the begin of an iteration or of a round of a saga, x the last step of a saga, e the end of a sub-workflow.

What the host's contract leaves open, and what is expected here:

- Of several events that a wait can get it gets the oldest; any, if a host died (before it had looked for the oldest).
- A wait after a container never gets an event that a wait in the container has had: two approvals need two events.
- What was scheduled or recurs inside a container belongs to it: the container ends when that has ended, too, and a
  saga that fails cancels it. Iterations of a `recur` run one after the other.
- `context.item` is that of the innermost `for_each` around a step, through all other containers in between.
- A step that has `Suspend()` or `Terminate()` of its own suspends or terminates the workflow inside a saga as well.
- The order of compensation is the reverse of that in which the steps were completed, also across parallel branches
  and nested sagas that succeeded. The step that failed was not completed and is not compensated.
- A wait that times out without `on_timeout` fails under the definition's `on_error`.
- A saga's `Retry` that is used up fails an enclosing saga, or else suspends the workflow.
- A sub-workflow goes on when its parent was suspended, terminated or ended.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from tests.host_properties import programs as nodes
from tests.host_properties.programs import DEFAULT_RETRIES, Branch, Node
from wfe_postgres import WorkflowStatus

Labels = frozenset[str]
Process = Generator[Labels, str, None]
ENDED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)
NOTHING: Labels = frozenset()


class SagaError(Exception):
    """The innermost saga has failed."""


class EndedError(Exception):
    """The workflow has ended, or is suspended."""

    def __init__(self, status: WorkflowStatus) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Published:
    """An event, and whether it is older than the workflow."""

    id: str
    key: str
    is_older: bool


@dataclass(frozen=True)
class Observed:
    """What was seen of a workflow: the tokens in its data, its status, and the statuses of its children.

    A status `Runnable` means that it waits. `children`: by (number of the node, path), in the order of their creation.
    `skips`: it was resumed without its failed steps whenever it was suspended. `in_any_order`: see above, "the oldest".
    """

    log: tuple[str, ...]
    status: WorkflowStatus
    events: Sequence[Published] = ()
    children: Mapping[tuple[int, str], Sequence[WorkflowStatus]] = field(default_factory=dict)
    path: str = ""
    skips: bool = False
    in_any_order: bool = False


@dataclass
class Run:
    """One run, as far as it has been interpreted."""

    observed: Observed
    log: list[str] = field(default_factory=list)
    completed: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    """Tokens of the compensations of what was completed, with the sagas around it."""
    started: Counter[tuple[int, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Scope:
    """What is around a node. `had`: the events that earlier waits have had; `beside`: takes what runs beside it."""

    run: Run
    path: str
    had: set[str] = field(default_factory=set)
    sagas: tuple[object, ...] = ()
    beside: Callable[[Process, set[str]], None] = lambda process, had: None


def together(scope: Scope, *bodies: Branch, paths: Sequence[str] = ()) -> Process:
    """All bodies, and what they schedule. It ends when each has ended; a failure of one ends all."""
    new: list[Process] = []
    live: list[tuple[Process, Labels]] = []
    hads: list[set[str]] = []

    def begin(process: Process, had: set[str]) -> None:
        new.append(process)
        hads.append(had)

    for index, body in enumerate(bodies):
        path = paths[index] if paths else scope.path
        inner = replace(scope, path=path, had=set(scope.had), beside=begin)
        begin(sequence(inner, body), inner.had)
    try:
        while True:
            while new:
                _advance(live, new.pop(0), None)
            if not live:
                return
            label = yield NOTHING.union(*(labels for _, labels in live))
            index = next(index for index, (_, labels) in enumerate(live) if label in labels)
            _advance(live, live.pop(index)[0], label)
    finally:
        scope.had.update(*hads)


def _advance(live: list[tuple[Process, Labels]], process: Process, label: str | None) -> None:
    with suppress(StopIteration):
        live.append((process, next(process) if label is None else process.send(label)))


def sequence(scope: Scope, body: Branch) -> Process:
    for node in body:
        yield from INTERPRETERS[type(node)](scope, node)


def _one(label: str) -> Process:
    yield frozenset((label,))


def _blocked(*labels: str) -> Process:
    while True:
        yield frozenset(labels)


def _fail(scope: Scope, token: str, on_error: int | str | None) -> Process:
    """It fails for good; it returns if the failure is to be skipped."""
    yield from _one(f"?{token}")
    if on_error == "terminate":
        raise EndedError(WorkflowStatus.TERMINATED)
    if scope.sagas and on_error != "suspend":
        raise SagaError
    if not scope.run.observed.skips:
        raise EndedError(WorkflowStatus.SUSPENDED)


def step(scope: Scope, node: nodes.Step) -> Process:
    """A step: its token, or its failure."""
    token = f"s{node.id}@{scope.path}"
    retries = DEFAULT_RETRIES if node.on_error is None else node.on_error
    if node.failures > (retries if isinstance(retries, int) else 0):
        yield from _fail(scope, token, node.on_error)
        return
    yield from _one(token)
    if node.compensation is not None:
        scope.run.completed.append((f"c{node.id}@{scope.path}", scope.sagas))


def wait_for(scope: Scope, node: nodes.WaitFor) -> Process:
    """An event of its key that no earlier wait has had."""
    token, observed = f"w{node.id}@{scope.path}", scope.run.observed
    events = [it.id for it in observed.events if it.key == node.key and (node.from_the_start or not it.is_older)]
    left = [f"{token}={it}" for it in events if it not in scope.had]
    if left:
        label = yield frozenset(left if observed.in_any_order else left[:1])
        scope.had.add(label.partition("=")[2])
    elif not node.timed:
        yield from _blocked()
    elif node.on_timeout:
        yield from together(scope, node.on_timeout)
    else:
        yield from _fail(scope, token, None)


def saga(scope: Scope, node: nodes.Saga) -> Process:
    """Rounds of its body, each ended by success or by the compensation of what was completed in it."""
    marker, last = f"m{node.id}@{scope.path}", f"x{node.id}@{scope.path}"
    this = object()
    inner = replace(scope, sagas=(*scope.sagas, this))
    for retried in count():
        try:
            yield from _one(marker)
            yield from together(inner, (*node.body, _Last(id=node.id, fails=node.fails)))
            return
        except SagaError:
            yield from _compensate(scope.run, this)
        if node.on_error is None:
            return
        if not isinstance(node.on_error, int) or retried >= node.on_error:
            yield from _fail(scope, last, node.on_error)


@dataclass(frozen=True)
class _Last(Node):
    fails: int


def _last(scope: Scope, node: _Last) -> Process:
    token = f"x{node.id}@{scope.path}"
    if scope.run.log.count(f"m{node.id}@{scope.path}") <= node.fails:
        yield from _fail(scope, token, 0)
    yield from _one(token)


def _compensate(run: Run, this: object) -> Process:
    for entry in reversed([it for it in run.completed if this in it[1]]):
        yield from _one(entry[0])
        run.completed.remove(entry)


def if_do(scope: Scope, node: nodes.If) -> Process:
    """Its body or nothing."""
    if node.holds:
        yield from together(scope, node.body)


def decide(scope: Scope, node: nodes.Decide) -> Process:
    """One of its branches or nothing."""
    body = node.cases[node.value] if node.value < len(node.cases) else node.otherwise
    if body:
        yield from together(scope, body)


def while_do(scope: Scope, node: nodes.While | nodes.Recur) -> Process:
    """Its body, until it has begun often enough; what an earlier round of a saga has begun counts."""
    marker = f"m{node.id}@{scope.path}"
    while scope.run.log.count(marker) < node.times:
        yield from _one(marker)
        yield from together(scope, node.body)


def for_each(scope: Scope, node: nodes.ForEach) -> Process:
    """Its body for each item."""
    paths = [f"{scope.path}/{index}" for index in range(node.items)]
    if node.parallel:
        yield from together(scope, *[node.body for _ in paths], paths=paths)
    else:
        for path in paths:
            yield from together(scope, node.body, paths=[path])


def schedule(scope: Scope, node: nodes.Schedule | nodes.Recur) -> Process:
    """It runs beside the main path."""
    inner = replace(scope, had=set(scope.had))
    scope.beside(while_do(inner, node) if isinstance(node, nodes.Recur) else together(inner, node.body), inner.had)
    yield from ()


def end(scope: Scope, node: nodes.End) -> Process:
    """The workflow is Complete."""
    yield from _one(f"?e{node.id}@{scope.path}")
    raise EndedError(WorkflowStatus.COMPLETE)


def sub_workflow(scope: Scope, node: nodes.SubWorkflow) -> Process:
    """It waits until its child has ended."""
    key = node.id, scope.path
    number = scope.run.started[key]
    scope.run.started[key] += 1
    statuses = scope.run.observed.children.get(key, ())
    token = f"e{node.id}@{scope.path}"
    if number >= len(statuses):
        yield from _blocked(f"the start of {token}")
    elif statuses[number] not in ENDED:
        yield from _blocked()
    elif statuses[number] is WorkflowStatus.TERMINATED:
        yield from _fail(scope, token, None)
    yield from _one(token)


INTERPRETERS: dict[type[Node], Callable[[Scope, Any], Process]] = {
    nodes.Step: step,
    nodes.Delay: lambda scope, node: sequence(scope, ()),
    nodes.WaitFor: wait_for,
    nodes.If: if_do,
    nodes.Decide: decide,
    nodes.While: while_do,
    nodes.ForEach: for_each,
    nodes.Parallel: lambda scope, node: together(scope, *node.branches),
    nodes.Saga: saga,
    _Last: _last,
    nodes.Schedule: schedule,
    nodes.Recur: schedule,
    nodes.End: end,
    nodes.SubWorkflow: sub_workflow,
}
