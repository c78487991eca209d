"""The pointers of a workflow as a tree, and the selection of nodes that are shown.

A pointer is placed below the pointer that encloses it (the last one of its scope) and after its predecessor. A
sequence stays on one level; where several pointers start in parallel, the successors of each are placed below it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from wfe_postgres.contract.models import ExecutionPointer, PointerStatus

FEW = 12
"""A level with at most this many nodes is shown in full."""

MAX_SIMILAR = 3
"""How many similar nodes are shown on a level with more than `FEW` nodes."""

MAX_DEPTH = 8
"""The number of levels that are shown."""

ENDED = frozenset({PointerStatus.COMPLETE, PointerStatus.SKIPPED, PointerStatus.COMPENSATED, PointerStatus.CANCELLED})
"""Final statuses that need no attention."""


@dataclass(eq=False)
class Node:
    """A pointer, the nodes that it encloses, and its successors if it has parallel siblings."""

    pointer: ExecutionPointer
    enclosed: list["Node"] = field(default_factory=list)
    following: list["Node"] = field(default_factory=list)
    statuses: frozenset[PointerStatus] = frozenset()
    """The statuses of the pointer and of all pointers below it."""
    size: int = 1
    """The number of pointers in the subtree."""

    @property
    def below(self) -> list["Node"]:
        """The child nodes."""
        return self.enclosed + self.following

    @property
    def group(self) -> frozenset[PointerStatus]:
        """Equal for similar nodes; empty if all pointers of the subtree have ended."""
        return frozenset() if self.statuses <= ENDED else self.statuses


@dataclass
class Elided:
    """A run of siblings that are not shown."""

    nodes: list[Node]

    @property
    def statuses(self) -> Counter[PointerStatus]:
        """The number of pointers in the subtrees, by status."""
        counts: Counter[PointerStatus] = Counter()
        waiting = list(self.nodes)
        while waiting:
            node = waiting.pop()
            counts[node.pointer.status] += 1
            waiting += node.below
        return counts


class Forest:
    """All pointers of a workflow, each exactly once, even if scopes or predecessors are inconsistent."""

    def __init__(self, pointers: Sequence[ExecutionPointer]) -> None:
        self._by_id = {pointer.id: pointer for pointer in pointers}
        self._placed: list[Node] = []
        self._seen: set[str] = set()
        self._group(pointers)
        self.roots: list[Node] = []
        self._grow(self._first[None], self.roots)
        for pointer in pointers:  # cyclic scopes or predecessors
            if pointer.id not in self._seen:
                self._grow([pointer], self.roots)
        self._sum_up()

    def _group(self, pointers: Sequence[ExecutionPointer]) -> None:
        """Index the pointers by enclosing pointer and by predecessor."""
        self._first: dict[str | None, list[ExecutionPointer]] = defaultdict(list)
        self._next: dict[str, list[ExecutionPointer]] = defaultdict(list)
        for pointer in pointers:
            predecessor = self._by_id.get(pointer.predecessor_id or "")
            if predecessor is not None and predecessor.scope == pointer.scope:
                self._next[predecessor.id].append(pointer)
            else:
                self._first[self._encloser(pointer)].append(pointer)

    def _encloser(self, pointer: ExecutionPointer) -> str | None:
        """The innermost pointer of the scope that exists."""
        return next((id for id in reversed(pointer.scope) if id in self._by_id), None)

    def _grow(self, first: list[ExecutionPointer], level: list[Node]) -> None:
        """Place the pointers, what they enclose and their successors. Iterative, since chains can be long."""
        waiting = [(first, level)]
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
        """Aggregate statuses and sizes bottom-up: children were placed after their parents."""
        for node in reversed(self._placed):
            node.statuses = frozenset({node.pointer.status}).union(*(it.statuses for it in node.below))
            node.size += sum(it.size for it in node.below)


def shown(level: Sequence[Node]) -> Iterator[Node | Elided]:
    """The nodes of a level that are shown (the first of each group, and the last), and the elided ones between them."""
    if len(level) <= FEW:
        yield from level
        return
    similar: Counter[frozenset[PointerStatus]] = Counter()
    left_out: list[Node] = []
    for index, node in enumerate(level):
        similar[node.group] += 1
        if similar[node.group] > MAX_SIMILAR and index < len(level) - 1:
            left_out.append(node)
            continue
        if left_out:
            yield Elided(left_out)
            left_out = []
        yield node
