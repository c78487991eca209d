"""The pointers of a workflow as a tree, and what of it fits a screen.

A pointer stands below the one that encloses it, the last of its scope, and after its predecessor. Where several
begin side by side, each has what follows it below itself; a mere sequence stays on one level.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from wfe_postgres import ExecutionPointer, PointerStatus

FEW = 12
"""As many on one level are always shown."""

ALIKE = 3
"""How many of those that are alike are shown where there are more than a few."""

DEEPEST = 8
"""Levels that fit a screen."""

OVER = frozenset({PointerStatus.COMPLETE, PointerStatus.SKIPPED, PointerStatus.COMPENSATED, PointerStatus.CANCELLED})
"""What has ended well enough not to be looked at singly."""


@dataclass(eq=False)
class Node:
    """A pointer, what it encloses, and what follows it if others stand beside it."""

    pointer: ExecutionPointer
    enclosed: list["Node"] = field(default_factory=list)
    following: list["Node"] = field(default_factory=list)
    statuses: frozenset[PointerStatus] = frozenset()
    """Of the pointer and of all below it."""
    size: int = 1
    """How many pointers that are."""

    @property
    def below(self) -> list["Node"]:
        """What stands below it."""
        return self.enclosed + self.following

    @property
    def likeness(self) -> frozenset[PointerStatus]:
        """Equal for nodes that look alike from afar; empty where all is over."""
        return frozenset() if self.statuses <= OVER else self.statuses


@dataclass
class Elided:
    """Nodes that stand in one place and are not shown."""

    nodes: list[Node]

    @property
    def statuses(self) -> Counter[PointerStatus]:
        """How many of their pointers have which status."""
        counts: Counter[PointerStatus] = Counter()
        waiting = list(self.nodes)
        while waiting:
            node = waiting.pop()
            counts[node.pointer.status] += 1
            waiting += node.below
        return counts


class Forest:
    """All the pointers of a workflow, each of them once, whatever their scopes and predecessors say."""

    def __init__(self, pointers: Sequence[ExecutionPointer]) -> None:
        self._by_id = {pointer.id: pointer for pointer in pointers}
        self._placed: list[Node] = []
        self._seen: set[str] = set()
        self._group(pointers)
        self.roots: list[Node] = []
        self._grow(self._first[None], self.roots)
        for pointer in pointers:  # scopes or predecessors that run in a circle
            if pointer.id not in self._seen:
                self._grow([pointer], self.roots)
        self._sum_up()

    def _group(self, pointers: Sequence[ExecutionPointer]) -> None:
        """Find who begins within which pointer, and who follows whom."""
        self._first: dict[str | None, list[ExecutionPointer]] = defaultdict(list)
        self._next: dict[str, list[ExecutionPointer]] = defaultdict(list)
        for pointer in pointers:
            predecessor = self._by_id.get(pointer.predecessor_id or "")
            if predecessor is not None and predecessor.scope == pointer.scope:
                self._next[predecessor.id].append(pointer)
            else:
                self._first[self._encloser(pointer)].append(pointer)

    def _encloser(self, pointer: ExecutionPointer) -> str | None:
        """The innermost pointer of its scope that there is."""
        return next((id for id in reversed(pointer.scope) if id in self._by_id), None)

    def _grow(self, beginning: list[ExecutionPointer], level: list[Node]) -> None:
        """Place what begins on a level, with all that is within it and after it. (A loop: chains are long.)"""
        waiting = [(beginning, level)]
        while waiting:
            pointers, level = waiting.pop()
            pointers = [pointer for pointer in pointers if pointer.id not in self._seen]
            for pointer in pointers:
                node = self._place(pointer, level)
                waiting.append((self._first[pointer.id], node.enclosed))
                following = self._next[pointer.id]
                is_sequence = len(pointers) == 1 and len(following) == 1
                waiting.append((following, level if is_sequence else node.following))

    def _place(self, pointer: ExecutionPointer, level: list[Node]) -> Node:
        node = Node(pointer)
        self._seen.add(pointer.id)
        self._placed.append(node)
        level.append(node)
        return node

    def _sum_up(self) -> None:
        """Tell every node what is below it; the nodes below one were placed after it."""
        for node in reversed(self._placed):
            node.statuses = frozenset({node.pointer.status}).union(*(it.statuses for it in node.below))
            node.size += sum(it.size for it in node.below)


def shown(level: Sequence[Node]) -> Iterator[Node | Elided]:
    """Of the nodes on a level those worth a line: the first ones of each kind and the last; and what lies between."""
    if len(level) <= FEW:
        yield from level
        return
    alike: Counter[frozenset[PointerStatus]] = Counter()
    left_out: list[Node] = []
    for index, node in enumerate(level):
        alike[node.likeness] += 1
        if alike[node.likeness] > ALIKE and index < len(level) - 1:
            left_out.append(node)
            continue
        if left_out:
            yield Elided(left_out)
            left_out = []
        yield node
