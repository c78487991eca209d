"""Random workflow programs: what a definition consists of, as plain data, and Hypothesis strategies for it.

A program is a branch: a tuple of nodes. Each node has a number of its own, from which its name is made; `numbered`
assigns the numbers. `building.py` turns a program into definitions, `interpreter.py` says what must come of it.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any

from hypothesis import strategies as some

FOR_GOOD = 99
"""More failures than any step is retried."""

DEFAULT_RETRIES = 2
"""How often a step is retried whose `on_error` is `None`: what the definition says."""


@dataclass(frozen=True)
class Node:
    """One primitive of a program."""

    _: KW_ONLY
    id: int = 0


Branch = tuple[Node, ...]


@dataclass(frozen=True)
class Step(Node):
    """A step that fails `failures` times, then leaves its name in the log.

    `on_error`: `None` (what the definition says), a number of retries, or the name of another behaviour.
    `compensation`: how often its compensation fails before it succeeds; `None`: it has none.
    """

    failures: int = 0
    on_error: int | str | None = None
    compensation: int | None = None


@dataclass(frozen=True)
class Delay(Node):
    """Go on after so many seconds."""

    seconds: float = 1


@dataclass(frozen=True)
class WaitFor(Node):
    """Wait for an event. With `timed` there is a timeout, followed by `on_timeout` or, if that is empty, a failure.

    `from_the_start`: events from before the workflow was created count as well.
    """

    key: str
    from_the_start: bool = False
    timed: bool = False
    on_timeout: Branch = ()


@dataclass(frozen=True)
class If(Node):
    """Run the branch if `holds`."""

    holds: bool
    body: Branch


@dataclass(frozen=True)
class Decide(Node):
    """Run the case of this number; `otherwise`, if not empty, where there is none."""

    value: int
    cases: tuple[Branch, ...]
    otherwise: Branch = ()


@dataclass(frozen=True)
class While(Node):
    """Run the branch until it has begun so many times."""

    times: int
    body: Branch


@dataclass(frozen=True)
class ForEach(Node):
    """Run the branch for so many items."""

    items: int
    body: Branch
    parallel: bool = True


@dataclass(frozen=True)
class Parallel(Node):
    """Run all branches."""

    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Saga(Node):
    """Run the branch as a saga. Its last step fails for good in the first `fails` rounds.

    `on_error`: `None` (go on after the saga), a number of retries, or the name of another behaviour.
    """

    body: Branch
    fails: int = 0
    on_error: int | str | None = None


@dataclass(frozen=True)
class Schedule(Node):
    """Begin the branch later; the main path goes on."""

    seconds: float
    body: Branch


@dataclass(frozen=True)
class Recur(Node):
    """Run the branch so many times, at an interval; the main path goes on."""

    times: int
    body: Branch


@dataclass(frozen=True)
class End(Node):
    """End the workflow here."""


@dataclass(frozen=True)
class SubWorkflow(Node):
    """Run the branch as a workflow of its own, and wait for its end."""

    body: Branch


def numbered(program: Branch) -> Branch:
    """The program with a number for each node, depth first from 1.

    Waits in sub-workflows become `from_the_start`: when a sub-workflow is created depends on when its parent runs.
    """
    return tuple(_numbered(program, itertools.count(1), False))


def _numbered(value: Any, numbers: Iterator[int], in_child: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_numbered(it, numbers, in_child) for it in value)
    if not isinstance(value, Node):
        return value
    id = next(numbers)
    below = in_child or isinstance(value, SubWorkflow)
    changed = {it.name: _numbered(getattr(value, it.name), numbers, below) for it in fields(value) if it.name != "id"}
    if isinstance(value, WaitFor):
        changed["from_the_start"] = value.from_the_start or in_child
    return replace(value, id=id, **changed)


def programs(depth: int = 4, size: int = 40, *, sagas: bool = True) -> some.SearchStrategy[Branch]:
    """Programs nested so deep at most, a run of which has about so many steps at most."""
    return _programs(depth, size, sagas).map(numbered)


@some.composite
def _programs(draw: some.DrawFn, depth: int, size: int, sagas: bool) -> Branch:
    return _Drawing(draw, size, sagas).branch(depth, _Place(in_saga=False), least=2, most=5)


# How often a step fails, and what is done then: the step is complete in the end, or not.
_SUCCESSES: list[tuple[int, int | str | None]] = [
    *[(0, None)] * 6,
    (0, "terminate"),
    (0, 0),
    (1, None),
    (2, None),
    (1, 1),
]
_FAILURES: list[tuple[int, int | str | None]] = [(FOR_GOOD, None), (2, 1), (1, 0), (1, "suspend"), (1, "terminate")]
_AFTER_SAGA: list[int | str | None] = [None, None, None, 0, 1, 1, 2, "suspend", "terminate"]
_LEAVES = [Step, Step, Step, Step, WaitFor, Delay]
_CONTAINERS = [If, Decide, While, ForEach, ForEach, Parallel, Parallel, Schedule, Recur, SubWorkflow, WaitFor]


@dataclass(frozen=True)
class _Place:
    """Where a node is: in a saga or not, and how often it is run about."""

    in_saga: bool
    times: int = 1


class _Drawing:
    """Draws one program. After `size` steps it draws single steps only, so that the program ends."""

    def __init__(self, draw: some.DrawFn, size: int, sagas: bool) -> None:
        self._draw = draw
        self._left = size
        self._containers = [*_CONTAINERS, Saga, Saga, Saga] if sagas else _CONTAINERS

    def branch(self, depth: int, place: _Place, least: int = 1, most: int = 3) -> Branch:
        """A branch of nodes."""
        length = self._draw(some.integers(least, most)) if self._left > 0 else 1
        return tuple(self._node(depth, place) for _ in range(length))

    def _node(self, depth: int, place: _Place) -> Node:
        self._left -= place.times
        is_leaf = depth == 0 or self._left <= 0 or self._one_of([True, False])
        kind = self._one_of(_LEAVES if is_leaf else self._containers)
        if is_leaf:
            return self._leaf(kind, place)
        node: Node = getattr(self, f"_{kind.__name__.lower()}")(depth - 1, place)
        return node

    def _leaf(self, kind: type[Node], place: _Place) -> Node:
        if kind is WaitFor:
            return WaitFor(self._one_of(["k0", "k0", "k1"]), self._one_of([False, True]))
        if kind is Delay:
            # An end is rare: little can be seen of what comes after it.
            found: Node = self._one_of([End(), *[Delay(seconds) for seconds in (0, 1, 1, 2.5, 2.5)]])
            return found
        fails = self._one_of([False] * (5 if place.in_saga else 15) + [True])
        failures = [*_FAILURES, (FOR_GOOD, 0), (1, "compensate")] if place.in_saga else _FAILURES
        compensation = self._one_of([None, 0, 0, 1]) if place.in_saga else None
        count, on_error = self._one_of(failures if fails else _SUCCESSES)
        return Step(count, on_error, compensation)

    def _one_of(self, values: Sequence[Any]) -> Any:
        return self._draw(some.sampled_from(values))

    def _repeated(self, depth: int, place: _Place) -> tuple[int, Branch]:
        times = self._one_of([0, 1, 2, 2])
        return times, self.branch(depth, replace(place, times=place.times * max(times, 1)))

    def _branches(self, depth: int, place: _Place) -> tuple[Branch, ...]:
        return tuple(self.branch(depth, place) for _ in range(self._one_of([1, 2, 2, 3])))

    def _maybe(self, depth: int, place: _Place) -> Branch:
        return self.branch(depth, place) if self._one_of([False, True]) else ()

    def _if(self, depth: int, place: _Place) -> Node:
        return If(self._one_of([False, True, True]), self.branch(depth, place))

    def _decide(self, depth: int, place: _Place) -> Node:
        return Decide(self._one_of([0, 1, 2]), self._branches(depth, place), self._maybe(depth, place))

    def _while(self, depth: int, place: _Place) -> Node:
        return While(*self._repeated(depth, place))

    def _foreach(self, depth: int, place: _Place) -> Node:
        return ForEach(*self._repeated(depth, place), self._one_of([False, True]))

    def _parallel(self, depth: int, place: _Place) -> Node:
        return Parallel(self._branches(depth, place))

    def _schedule(self, depth: int, place: _Place) -> Node:
        return Schedule(self._one_of([0, 1, 3]), self.branch(depth, place))

    def _recur(self, depth: int, place: _Place) -> Node:
        return Recur(*self._repeated(depth, place))

    def _subworkflow(self, depth: int, place: _Place) -> Node:
        return SubWorkflow(self.branch(depth, replace(place, in_saga=False)))

    def _waitfor(self, depth: int, place: _Place) -> Node:
        return WaitFor("t0", self._one_of([False, True]), True, self._maybe(depth, place))

    def _saga(self, depth: int, place: _Place) -> Node:
        body = self.branch(depth, _Place(in_saga=True, times=place.times * 2))
        return Saga(body, self._one_of([0, 0, 1, 1, 2]), self._one_of(_AFTER_SAGA))
