"""`find_workflows`: several statuses, prefixes, completion times, what nobody has touched, and the order."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider, SerializationError, WorkflowStatus
from wfe_postgres.statements import queries
from wfe_postgres.testing.conformance.support import at, workflow

Provider = PostgresPersistenceProvider

RUNNABLE, SUSPENDED, COMPLETE, TERMINATED = WorkflowStatus


def ids(provider: Provider, **filters: Any) -> list[str]:
    """The ids on the first page."""
    return [it.id for it in provider.find_workflows(**filters).items]


def all_pages(provider: Provider, **filters: Any) -> list[str]:
    """The ids on all pages."""
    found, cursor = [], None
    while True:
        page = provider.find_workflows(cursor=cursor, **filters)
        found += [it.id for it in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.fixture
def statuses(provider: Provider) -> list[str]:
    """Twelve workflows, three of each status, the newest last."""
    for number in range(12):
        status = list(WorkflowStatus)[number % 4]
        done = at(number) if status in (COMPLETE, TERMINATED) else None
        provider.create_new_workflow(
            workflow(id=f"w{number:02}", status=status, create_time=at(number), complete_time=done)
        )
    return [f"w{number:02}" for number in range(12)]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_several_statuses_are_merged_in_order(provider: Provider, statuses: list[str], order: Any, limit: int) -> None:
    expected = [id for number, id in enumerate(statuses) if number % 4 in (0, 2)]
    expected = expected if order == "oldest" else expected[::-1]
    assert all_pages(provider, status=[RUNNABLE, COMPLETE], order=order, limit=limit) == expected
    assert all_pages(provider, status=(COMPLETE, "Runnable", COMPLETE), order=order, limit=limit) == expected


def test_no_status_matches_nothing(provider: Provider, statuses: list[str]) -> None:
    assert provider.find_workflows(status=[]).items == []


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_oldest_first_reverses_the_order(provider: Provider, statuses: list[str], limit: int) -> None:
    assert all_pages(provider, order="oldest", limit=limit) == statuses
    assert all_pages(provider, order="newest", limit=limit) == statuses[::-1]


def test_cursor_of_one_order_is_refused_by_the_other(provider: Provider, statuses: list[str]) -> None:
    for order, other in (("newest", "oldest"), ("oldest", "newest")):
        cursor = provider.find_workflows(order=order, limit=1).next_cursor  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="cursor"):
            provider.find_workflows(order=other, cursor=cursor)  # type: ignore[arg-type]


def test_pages_have_no_gap_when_rows_are_added(provider: Provider, statuses: list[str]) -> None:
    page = provider.find_workflows(order="oldest", limit=6)
    provider.create_new_workflow(workflow(id="before", create_time=at(2.5)))
    provider.create_new_workflow(workflow(id="after", create_time=at(99)))
    rest = provider.find_workflows(order="oldest", cursor=page.next_cursor)
    assert [it.id for it in (*page.items, *rest.items)] == [*statuses, "after"]


def test_completion_times_are_half_open(provider: Provider, statuses: list[str]) -> None:
    assert ids(provider, completed_from=at(3), completed_to=at(7)) == ["w06", "w03"]
    assert ids(provider, completed_from=at(7), status=COMPLETE) == ["w10"]
    assert ids(provider, completed_to=at(3), order="oldest") == ["w02"]


LAST = chr(0x10FFFF)
NAMES = [
    "",
    "a",
    "ab",
    "abc",
    "aé",
    "a\ud7ff",
    "a\ue000",
    "a" + LAST,
    "a" + LAST * 2 + "b",
    LAST + "b",
    "b",
    "A",
    "a_",
    "a%",
    "日本",
    "日",
]


@pytest.mark.parametrize("prefix", ["a", "ab", "aé", "a\ud7ff", "a" + LAST, "日", "a_", "a%", "A", "c", LAST])
def test_prefix_finds_what_begins_with_it(provider: Provider, prefix: str) -> None:
    for number, name in enumerate(NAMES):
        provider.create_new_workflow(workflow(id=f"{number}", name=name or "empty", reference=name or None))
    expected = sorted(name for name in NAMES if name.startswith(prefix))
    found = provider.find_workflows(name_prefix=prefix).items
    assert sorted(it.name for it in found) == expected
    found = provider.find_workflows(reference_prefix=prefix).items
    assert sorted(it.reference or "" for it in found) == expected


def test_prefix_of_200_characters_finds_a_longer_name(provider: Provider) -> None:
    provider.create_new_workflow(workflow(id="long", name="é" * 300))
    provider.create_new_workflow(workflow(id="short", name="é" * 199))
    assert ids(provider, name_prefix="é" * 200) == ["long"]


@pytest.mark.parametrize("name", ["name_prefix", "reference_prefix"])
@pytest.mark.parametrize(
    ("value", "kind"), [("", ValueError), ("x" * 201, ValueError), (1, SerializationError), ("a\0", SerializationError)]
)
def test_bad_prefix_is_refused(provider: Provider, name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=name):
        provider.find_workflows(**{name: value})


def test_bad_combination_or_order_is_refused(provider: Provider) -> None:
    with pytest.raises(ValueError, match="untouched_since"):
        provider.find_workflows(untouched_since=at(0))
    with pytest.raises(ValueError, match="order"):
        provider.find_workflows(order="latest")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="statuses"):
        provider.find_workflows(statuses=[])  # type: ignore[call-arg]


FILTERS: dict[str, tuple[dict[str, Any], Callable[[int], bool]]] = {
    "status": ({"status": COMPLETE}, lambda it: it % 4 == 2),
    "statuses": ({"status": [RUNNABLE, SUSPENDED]}, lambda it: it % 4 < 2),
    "definition": ({"definition_id": "d1"}, lambda it: it % 3 == 1),
    "version": ({"version": 1}, lambda it: it % 2 == 1),
    "reference": ({"reference": "r1"}, lambda it: it % 5 == 1),
    "reference_prefix": ({"reference_prefix": "r"}, lambda it: True),
    "name_prefix": ({"name_prefix": "w1"}, lambda it: it >= 10),
    "root": ({"root_workflow_id": "root"}, lambda it: it < 7),
    "completed": ({"completed_from": at(3), "completed_to": at(11)}, lambda it: 3 <= it < 11),
    "created": ({"created_from": at(2), "created_to": at(10)}, lambda it: 2 <= it < 10),
}


@pytest.mark.parametrize(("window", "few"), [(1, 1), (2, 6), (1_000, 10_000)])
def test_filters_match_the_same_in_any_combination_and_by_any_index(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, window: int, few: int
) -> None:
    """Also where more match than are read by the filter's own index, and where the look ends within a page."""
    use_sizes(monkeypatch, window, few)
    for it in range(12):
        instance = workflow(id=f"w{it:02}", workflow_definition_id=f"d{it % 3}", version=it % 2, create_time=at(it))
        instance.reference, instance.root_workflow_id = f"r{it % 5}", "root" if it < 7 else None
        instance.status, instance.complete_time = list(WorkflowStatus)[it % 4], at(it)
        provider.create_new_workflow(instance)
    for pair in itertools.combinations_with_replacement(FILTERS.values(), 2):
        filters = pair[0][0] | pair[1][0]
        both = pair[1:] if "status" in pair[0][0].keys() & pair[1][0] else pair  # the second replaces the first
        matching = [it for it in range(12) if all(matches(it) for _, matches in both)]
        expected = [f"w{it:02}" for it in matching]
        assert all_pages(provider, order="oldest", limit=3, **filters) == expected, filters
        assert all_pages(provider, limit=2, **filters) == expected[::-1], filters


@pytest.mark.parametrize(
    "filters", [{"version": 9}, {"name_prefix": "w", "version": 9}, {"status": COMPLETE, "version": 9}]
)
def test_page_ends_where_the_look_ends(
    provider: Provider, statuses: list[str], monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    """None of the first workflows matches, so the page is empty, and its cursor leads on."""
    use_sizes(monkeypatch, 1, 2)
    page = provider.find_workflows(**filters)
    assert page.items == []
    assert page.next_cursor is not None
    assert all_pages(provider, **filters) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"name_prefix": "w"}, "created"),
        ({"name_prefix": "w1"}, "name_prefix"),
        ({"name_prefix": "w", "status": COMPLETE}, "status"),
        ({"name_prefix": "w1", "status": COMPLETE}, "name_prefix"),
        ({"completed_from": at(0)}, "created"),
        ({"completed_from": at(9)}, "completed_from"),
        ({"definition_id": "order", "status": COMPLETE}, "definition_id"),
        ({"definition_id": "order", "status": RUNNABLE}, "status"),
        ({"definition_id": "none", "status": RUNNABLE}, "definition_id"),
        ({"definition_id": "order", "version": 1}, "definition_id"),
    ],
)
def test_filter_that_many_match_is_not_found_by_its_own_index(
    provider: Provider, statuses: list[str], monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], expected: str
) -> None:
    """Two workflows have a name that begins with w1, two completed at 9 or later, and more than three all the rest."""
    use_sizes(monkeypatch, 1, 3)
    found_by: list[str] = []

    def record(filters: frozenset[str], by: str, **order: bool) -> object:
        found_by.append(by)
        return find(filters, by, **order)

    find = queries.find_workflows
    monkeypatch.setattr(queries, "find_workflows", record)
    provider.find_workflows(**filters)
    assert set(found_by) == {expected}


def use_sizes(monkeypatch: pytest.MonkeyPatch, window: int, few: int) -> None:
    """How many workflows a statement and a page look at."""
    monkeypatch.setattr(queries, "WINDOW", window)
    monkeypatch.setattr(queries, "FEW", few)
    for function in (queries.find_workflows, queries.count_matches):
        function.cache_clear()


@pytest.fixture(autouse=True)
def _usual_sizes() -> Iterator[None]:
    yield
    for function in (queries.find_workflows, queries.count_matches):
        function.cache_clear()


def untouched(provider: Provider, sql: Sql, count: int) -> list[str]:
    """Runnable workflows, every third saved last at `at(0)`, the others later; the ids of those, newest first."""
    for number in range(count):
        provider.create_new_workflow(workflow(id=f"w{number:02}", create_time=at(number)))
    sql("UPDATE wfc.workflows SET last_heartbeat_at = %s WHERE substr(id, 2)::int %% 3 = 0", [at(0)])
    sql("UPDATE wfc.workflows SET last_heartbeat_at = now()::date + 3650 WHERE substr(id, 2)::int %% 3 > 0", [])
    return [f"w{number:02}" for number in range(count) if number % 3 == 0][::-1]


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(("window", "most"), [(1, 1), (1, 3), (2, 4), (5, 5), (1_000, 10_000)])
def test_untouched_workflows_are_found_a_bounded_look_at_a_time(
    provider: Provider, sql: Sql, monkeypatch: pytest.MonkeyPatch, window: int, most: int, limit: int
) -> None:
    """Pages can be short or empty, but their cursors lead to every match, once."""
    use_sizes(monkeypatch, window, most)
    expected = untouched(provider, sql, 12)
    assert all_pages(provider, status=RUNNABLE, untouched_since=at(1), limit=limit) == expected
    assert all_pages(provider, definition_id="order", untouched_since=at(1), limit=limit) == expected
    oldest = all_pages(provider, status=RUNNABLE, untouched_since=at(1), limit=limit, order="oldest")
    assert oldest == expected[::-1]


def test_workflow_without_a_save_time_counts_from_its_creation(provider: Provider, sql: Sql) -> None:
    """As in a store of an older Rust host."""
    provider.create_new_workflow(workflow(id="old", create_time=at(0)))
    sql("UPDATE wfc.workflows SET last_heartbeat_at = NULL")
    assert ids(provider, status=RUNNABLE, untouched_since=at(1)) == ["old"]
    assert ids(provider, status=RUNNABLE, untouched_since=at(0)) == []
