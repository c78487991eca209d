"""The tree of pointers: the position of each pointer, and the summary of long levels."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.cli.scenarios import pointer
from wfe_postgres import ExecutionPointer, PointerStatus
from wfe_postgres.host.tree import FEW, MAX_SIMILAR, Elided, Forest, Node, shown

P = PointerStatus
Shape = list["str | tuple[str, Shape]"]


def shape(nodes: list[Node]) -> Shape:
    """The ids of the nodes with their children."""
    return [(it.pointer.id, shape(it.below)) if it.below else it.pointer.id for it in nodes]


def shape_of(*pointers: tuple[str, str | None, str]) -> Shape:
    """The shape of the forest of these pointers, given as id, predecessor and scope."""
    return shape(Forest([pointer(id, P.COMPLETE, after, within) for id, after, within in pointers]).roots)


def test_sequence_is_on_one_level() -> None:
    assert shape_of(("a", None, ""), ("b", "a", ""), ("c", "b", "")) == ["a", "b", "c"]


def test_sequence_order_is_independent_of_stored_order() -> None:
    assert shape_of(("c", "b", ""), ("a", None, ""), ("b", "a", "")) == ["a", "b", "c"]


def test_branches_are_children_of_their_scope_and_successors_are_siblings() -> None:
    branches = (("b1", "a", "a"), ("b2", "a", "a"))
    assert shape_of(("a", None, ""), *branches, ("c", "a", "")) == [("a", ["b1", "b2"]), "c"]


def test_successors_of_parallel_branches_are_their_children() -> None:
    steps = (("x", "a", "a"), ("y", "a", "a"), ("x2", "x", "a"), ("y2", "y", "a"), ("x3", "x2", "a"))
    assert shape_of(("a", None, ""), *steps) == [("a", [("x", ["x2", "x3"]), ("y", ["y2"])])]


def test_multiple_successors_are_children() -> None:
    assert shape_of(("a", None, ""), ("b", "a", ""), ("c", "a", ""), ("d", "b", "")) == [("a", [("b", ["d"]), "c"])]


def test_nested_scopes_are_nested() -> None:
    assert shape_of(("a", None, ""), ("b", "a", "a"), ("c", "b", "a b"), ("d", "c", "a b")) == [
        ("a", [("b", ["c", "d"])])
    ]


def test_pointer_with_missing_relations_is_a_root() -> None:
    assert shape_of(("a", "gone", ""), ("b", "a", "gone"), ("c", None, "a gone")) == [("a", ["c"]), "b"]


def test_cyclic_relations_terminate() -> None:
    assert shape_of(("a", "b", ""), ("b", "a", "")) == ["a", "b"]
    assert shape_of(("c", None, "c")) == ["c"]
    assert shape_of(("d", "d", "")) == ["d"]


def test_long_chains_and_deep_nesting_do_not_overflow_the_stack() -> None:
    chain = [pointer(f"{n}", P.COMPLETE, f"{n - 1}") for n in range(5000)]
    assert len(Forest(chain).roots) == 5000
    nested = [pointer(f"{n}", P.COMPLETE, None, " ".join(map(str, range(max(0, n - 2), n)))) for n in range(5000)]
    [top] = Forest(nested).roots
    assert top.statuses == {P.COMPLETE}


ids = some.sampled_from([*"abcdef", "gone"])


@given(some.lists(some.tuples(some.none() | ids, some.lists(ids, max_size=3)), max_size=6))
def test_every_pointer_appears_once(relations: list[tuple[str | None, list[str]]]) -> None:
    pointers = [
        pointer("abcdef"[index], P.COMPLETE, after, " ".join(within)) for index, (after, within) in enumerate(relations)
    ]
    found: list[str] = []
    waiting = list(Forest(pointers).roots)
    while waiting:
        node = waiting.pop()
        found.append(node.pointer.id)
        waiting += node.below
    assert sorted(found) == [it.id for it in pointers]


def level_of(statuses: list[PointerStatus]) -> list[Node]:
    """Sibling nodes with these statuses."""
    return Forest([ExecutionPointer(0, id=f"{index}", status=it) for index, it in enumerate(statuses)]).roots


def test_few_siblings_are_all_shown() -> None:
    level = level_of([P.COMPLETE] * FEW)
    assert list(shown(level)) == level


def test_many_finished_siblings_show_first_and_last() -> None:
    level = level_of([P.COMPLETE, P.SKIPPED, P.CANCELLED, P.COMPENSATED] * 250)
    *first, elided, last = shown(level)
    assert first == level[:MAX_SIMILAR]
    assert last is level[-1]
    assert isinstance(elided, Elided)
    assert elided.statuses.total() == 1000 - MAX_SIMILAR - 1


@pytest.mark.parametrize("status", [P.RUNNING, P.FAILED, P.WAITING_FOR_EVENT, P.SLEEPING])
def test_sibling_with_different_status_is_shown(status: PointerStatus) -> None:
    level = level_of([P.COMPLETE] * 500 + [status] + [P.COMPLETE] * 500)
    assert level[500] in list(shown(level))


def test_finished_branch_with_failed_step_is_shown() -> None:
    branches = [pointer(f"b{n}", P.COMPLETE) for n in range(100)]
    branches.append(pointer("inside", P.FAILED, "b50", "b50"))
    level = Forest(branches).roots
    assert level[50] in list(shown(level))


def test_number_of_lines_is_limited_in_any_order() -> None:
    for statuses in ([P.COMPLETE, P.FAILED] * 1500, list(P) * 300, [P.PENDING] * 3000):
        lines = list(shown(level_of(statuses)))
        assert len(lines) <= 2 * (MAX_SIMILAR + 1) * len(set(statuses))
        counts: Counter[PointerStatus] = Counter()
        for it in lines:
            counts += it.statuses if isinstance(it, Elided) else Counter([it.pointer.status])
        assert counts == Counter(statuses)
