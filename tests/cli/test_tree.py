"""The tree of pointers: where each of them stands, and what is left out of a long level."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.cli.scenarios import pointer
from wfe_postgres import ExecutionPointer, PointerStatus
from wfe_postgres.cli.tree import ALIKE, FEW, Elided, Forest, Node, shown

P = PointerStatus
Shape = list["str | tuple[str, Shape]"]


def shape(nodes: list[Node]) -> Shape:
    """The ids, with what stands below them."""
    return [(it.pointer.id, shape(it.below)) if it.below else it.pointer.id for it in nodes]


def grown(*pointers: tuple[str, str | None, str]) -> Shape:
    """The shape of a forest of these: id, predecessor, scope."""
    return shape(Forest([pointer(id, P.COMPLETE, after, within) for id, after, within in pointers]).roots)


def test_a_sequence_stays_on_one_level() -> None:
    assert grown(("a", None, ""), ("b", "a", ""), ("c", "b", "")) == ["a", "b", "c"]


def test_a_sequence_is_in_its_own_order_whatever_the_stored_one() -> None:
    assert grown(("c", "b", ""), ("a", None, ""), ("b", "a", "")) == ["a", "b", "c"]


def test_branches_stand_below_what_encloses_them_and_what_follows_beside_it() -> None:
    branches = (("b1", "a", "a"), ("b2", "a", "a"))
    assert grown(("a", None, ""), *branches, ("c", "a", "")) == [("a", ["b1", "b2"]), "c"]


def test_what_follows_one_of_several_branches_stands_below_it() -> None:
    steps = (("x", "a", "a"), ("y", "a", "a"), ("x2", "x", "a"), ("y2", "y", "a"), ("x3", "x2", "a"))
    assert grown(("a", None, ""), *steps) == [("a", [("x", ["x2", "x3"]), ("y", ["y2"])])]


def test_several_that_follow_one_stand_below_it() -> None:
    assert grown(("a", None, ""), ("b", "a", ""), ("c", "a", ""), ("d", "b", "")) == [("a", [("b", ["d"]), "c"])]


def test_scopes_within_scopes() -> None:
    assert grown(("a", None, ""), ("b", "a", "a"), ("c", "b", "a b"), ("d", "c", "a b")) == [("a", [("b", ["c", "d"])])]


def test_who_names_what_is_not_there_stands_by_itself() -> None:
    assert grown(("a", "gone", ""), ("b", "a", "gone"), ("c", None, "a gone")) == [("a", ["c"]), "b"]


def test_circles_end() -> None:
    assert grown(("a", "b", ""), ("b", "a", "")) == ["a", "b"]
    assert grown(("c", None, "c")) == ["c"]
    assert grown(("d", "d", "")) == ["d"]


def test_a_chain_may_be_long_and_nesting_deep() -> None:
    chain = [pointer(f"{n}", P.COMPLETE, f"{n - 1}") for n in range(5000)]
    assert len(Forest(chain).roots) == 5000
    nested = [pointer(f"{n}", P.COMPLETE, None, " ".join(map(str, range(max(0, n - 2), n)))) for n in range(5000)]
    [top] = Forest(nested).roots
    assert top.statuses == {P.COMPLETE}


ids = some.sampled_from([*"abcdef", "gone"])


@given(some.lists(some.tuples(some.none() | ids, some.lists(ids, max_size=3)), max_size=6))
def test_every_pointer_stands_in_one_place(relations: list[tuple[str | None, list[str]]]) -> None:
    pointers = [
        pointer("abcdef"[place], P.COMPLETE, after, " ".join(within)) for place, (after, within) in enumerate(relations)
    ]
    found: list[str] = []
    waiting = list(Forest(pointers).roots)
    while waiting:
        node = waiting.pop()
        found.append(node.pointer.id)
        waiting += node.below
    assert sorted(found) == [it.id for it in pointers]


def level_of(statuses: list[PointerStatus]) -> list[Node]:
    """Siblings that have these."""
    return Forest([ExecutionPointer(0, id=f"{place}", status=it) for place, it in enumerate(statuses)]).roots


def test_a_few_are_all_shown() -> None:
    level = level_of([P.COMPLETE] * FEW)
    assert list(shown(level)) == level


def test_of_many_that_are_over_the_first_ones_and_the_last_are_shown() -> None:
    level = level_of([P.COMPLETE, P.SKIPPED, P.CANCELLED, P.COMPENSATED] * 250)
    *first, elided, last = shown(level)
    assert first == level[:ALIKE]
    assert last is level[-1]
    assert isinstance(elided, Elided)
    assert elided.statuses.total() == 1000 - ALIKE - 1


@pytest.mark.parametrize("odd", [P.RUNNING, P.FAILED, P.WAITING_FOR_EVENT, P.SLEEPING])
def test_the_odd_one_out_is_shown(odd: PointerStatus) -> None:
    level = level_of([P.COMPLETE] * 500 + [odd] + [P.COMPLETE] * 500)
    assert level[500] in list(shown(level))


def test_a_finished_branch_with_a_failed_step_in_it_is_shown() -> None:
    branches = [pointer(f"b{n}", P.COMPLETE) for n in range(100)]
    branches.append(pointer("inside", P.FAILED, "b50", "b50"))
    level = Forest(branches).roots
    assert level[50] in list(shown(level))


def test_few_lines_whatever_the_order() -> None:
    for statuses in ([P.COMPLETE, P.FAILED] * 1500, list(P) * 300, [P.PENDING] * 3000):
        lines = list(shown(level_of(statuses)))
        assert len(lines) <= 2 * (ALIKE + 1) * len(set(statuses))
        counts: Counter[PointerStatus] = Counter()
        for it in lines:
            counts += it.statuses if isinstance(it, Elided) else Counter([it.pointer.status])
        assert counts == Counter(statuses)
