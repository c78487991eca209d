"""`find_workflows`: filters, order, paging and invalid arguments; and the limits of all list calls."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Sql
from tests.provider.databases import statements_of
from wfe_postgres import (
    PostgresPersistenceProvider,
    SerializationError,
    WorkflowInstance,
    WorkflowStatus,
    WorkflowSummary,
)
from wfe_postgres.testing.conformance.support import at, created, full_workflow, has_workflow, ms, pointer, workflow

Provider = PostgresPersistenceProvider
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - invalid on purpose
BIG = 2**63 - 1


def summary(instance: WorkflowInstance) -> WorkflowSummary:
    """The expected WorkflowSummary of the workflow."""
    return WorkflowSummary(
        id=instance.id,
        name=instance.name,
        workflow_definition_id=instance.workflow_definition_id,
        version=instance.version,
        status=instance.status,
        description=instance.description,
        reference=instance.reference,
        root_workflow_id=instance.root_workflow_id,
        next_execution=instance.next_execution,
        create_time=instance.create_time,
        complete_time=instance.complete_time,
    )


def ids(provider: Provider, **filters: Any) -> list[str]:
    """The ids that `find_workflows` returns with these filters."""
    return [it.id for it in provider.find_workflows(**filters).items]


def pages(provider: Provider, between: Callable[[], object] = lambda: None, **filters: Any) -> Iterator[list[str]]:
    """The ids of each page; `between` is called between two pages."""
    cursor = None
    while True:
        page = provider.find_workflows(cursor=cursor, **filters)
        yield [it.id for it in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return
        between()


def test_find_workflows_returns_summaries(provider: Provider) -> None:
    """Summaries have every field of the workflow except its data and pointers."""
    stored = [created(provider, full_workflow()), created(provider, workflow(create_time=at(-1)))]
    page = provider.find_workflows()
    assert page.items == [summary(it) for it in stored]
    assert page.next_cursor is None


def test_find_workflows_returns_matches_of_all_filters(provider: Provider) -> None:
    """Each filter alone and all combined; filters that match nothing return an empty page."""
    base: dict[str, Any] = {
        "status": WorkflowStatus.SUSPENDED,
        "workflow_definition_id": "invoice",
        "version": 2,
        "reference": "A-17",
        "root_workflow_id": "root",
    }
    match = created(provider, workflow(id="match", create_time=at(5), **base)).id
    for name, other in (
        ("status", WorkflowStatus.RUNNABLE),
        ("workflow_definition_id", "order"),
        ("version", 3),
        ("reference", None),
        ("root_workflow_id", "another"),
    ):
        provider.create_new_workflow(workflow(id=f"other {name}", create_time=at(5), **{**base, name: other}))
    filters = {("definition_id" if name == "workflow_definition_id" else name): value for name, value in base.items()}
    for name, value in filters.items():
        found = ids(provider, **{name: value})
        assert match in found
        assert len(found) == 5
    assert ids(provider, **filters) == [match]
    assert ids(provider, **filters, created_from=at(5), created_to=at(6)) == [match]
    assert ids(provider, **filters, created_from=at(6)) == []
    assert ids(provider, reference="B-17") == []
    assert ids(provider, status="Suspended", definition_id="invoice", version=3) == ["other version"]


def test_find_workflows_time_range_is_half_open(provider: Provider) -> None:
    """`created_from` is inclusive and `created_to` exclusive, in any time zone."""
    for second in range(4):
        provider.create_new_workflow(workflow(id=str(second), create_time=at(second)))
    assert ids(provider, created_from=at(1)) == ["3", "2", "1"]
    assert ids(provider, created_to=at(2)) == ["1", "0"]
    assert ids(provider, created_from=at(1), created_to=at(3)) == ["2", "1"]
    assert ids(provider, created_from=at(1).astimezone(), created_to=at(1)) == []
    assert ids(provider, created_from=at(0) + timedelta(microseconds=1), created_to=at(1)) == []


def test_find_workflows_order_is_newest_first(provider: Provider) -> None:
    """Workflows with equal times have a fixed order, in one page and across pages."""
    for index in (3, 1, 4, 5, 2):
        provider.create_new_workflow(workflow(id=str(index), create_time=at(index % 2)))
    assert ids(provider) == ["5", "3", "1", "4", "2"]
    assert [it for page in pages(provider, limit=2) for it in page] == ["5", "3", "1", "4", "2"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_paging_returns_each_workflow_once_during_concurrent_inserts(provider: Provider, limit: int) -> None:
    """Workflows that existed at the first page are returned exactly once and in order."""
    stored = [f"{index:02}" for index in range(6)]
    for id in stored:
        provider.create_new_workflow(workflow(id=id, create_time=at(int(id) // 3)))
    number = iter(range(1000))

    def add() -> None:
        for time in (-1, 0, 0.5, 1, 2):
            provider.create_new_workflow(workflow(id=f"new {next(number)}", create_time=at(time)))

    seen = [it for page in pages(provider, add, limit=limit, created_to=at(10)) for it in page]
    assert [it for it in seen if not it.startswith("new")] == stored[::-1]
    assert len(seen) == len(set(seen))


def test_paging_skips_no_workflow_during_concurrent_deletes_and_updates(provider: Provider) -> None:
    """Deletions do not cause other workflows to be skipped, and saves do not change the order."""
    stored = [created(provider, workflow(id=f"{index}", create_time=at(index))) for index in range(8)]
    deleted = iter(["7", "4", "1"])

    def delete_one_and_save_all() -> None:
        provider.delete_workflow(next(deleted))
        for it in stored:
            if has_workflow(provider, it.id):
                it.description = "changed"
                provider.persist_workflow(it)

    assert list(pages(provider, delete_one_and_save_all, limit=2)) == [["7", "6"], ["5", "4"], ["3", "2"], ["0"]]


def test_full_last_page_has_no_next_cursor(provider: Provider) -> None:
    """No additional empty page is returned."""
    for index in range(4):
        provider.create_new_workflow(workflow(id=str(index)))
    assert [len(page) for page in pages(provider, limit=2)] == [2, 2]
    assert [len(page) for page in pages(provider, limit=4)] == [4]
    assert provider.find_workflows(limit=BIG).next_cursor is None


def test_cursor_is_url_safe(provider: Provider) -> None:
    """The cursor is ASCII without reserved URL characters, whatever characters the ids contain."""
    for id in ("100%", 'quote"', "ä ☃ 𐍈", "back\\slash", "new\nline"):
        provider.create_new_workflow(workflow(id=id))
    cursor = provider.find_workflows(limit=3).next_cursor
    assert cursor is not None
    assert cursor.isascii()
    assert not set(cursor) & set(" +/%&?#\n")
    assert sum(len(page) for page in pages(provider, limit=1)) == 5


BAD_CURSORS: list[Any] = [
    "",
    "x",
    "nonsense",
    "=" * 8,
    "ä",
    "\0",
    "\ud83d",
    "bnVsbA==",  # null
    "W10=",  # []
    "WzEsMl0=",  # [1,2]
    "WyJ4IiwieSJd",  # ["x","y"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgMV0=",  # ["2030-01-01T00:00:00", 1]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIlx1MDAwMCJd",  # ["2030-01-01T00:00:00", "\u0000"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIlx1ZDgzZCJd",  # ["2030-01-01T00:00:00", "\ud83d"]
    "WyIyMDMwLTAxLTAxVDAwOjAwOjAwIiwgIngiLCAieSJd",  # one element too many
    "W1tb" * 10_000,  # nested beyond Python's recursion
    b"bnVsbA==",
    7,
    ["x"],
]


@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=lambda it: repr(it)[:30])
def test_invalid_cursor_is_rejected(provider: Provider, cursor: Any) -> None:
    """A ValueError before a statement is sent."""
    with statements_of(provider.engine) as sent, pytest.raises(ValueError, match="cursor"):
        provider.find_workflows(cursor=cursor)
    assert sent == []


def test_truncated_cursor_is_rejected(provider: Provider) -> None:
    """A ValueError for every shorter length."""
    for _ in range(2):
        provider.create_new_workflow(workflow())
    cursor = provider.find_workflows(limit=1).next_cursor
    assert cursor is not None
    for length in range(len(cursor.rstrip("=")) - 1):
        with pytest.raises(ValueError, match="cursor"):
            provider.find_workflows(cursor=cursor[:length])


LIMITED: dict[str, Callable[[Provider, Any], object]] = {
    "find_workflows": lambda it, limit: it.find_workflows(limit=limit),
    "get_execution_errors": lambda it, limit: it.get_execution_errors(limit=limit),
    "purge_workflows": lambda it, limit: it.purge_workflows(WorkflowStatus.COMPLETE, at(0), batch_size=limit),
    "purge_events": lambda it, limit: it.purge_events(at(0), batch_size=limit),
}


@pytest.mark.parametrize("call", LIMITED.values(), ids=LIMITED)
def test_invalid_limits_are_rejected(provider: Provider, call: Callable[[Provider, Any], object]) -> None:
    """A ValueError before a statement is sent; arbitrarily large limits are accepted."""
    with statements_of(provider.engine) as sent:
        for limit in (0, -1, True, 1.0, "1", None):
            with pytest.raises(ValueError, match="rows"):
                call(provider, limit)
    assert sent == []
    for limit in (1, 2**31, BIG, 2**63, 10**30):
        call(provider, limit)


@pytest.mark.parametrize("limit", [-1, True, 1.0, "1"])
def test_invalid_limits_of_polling_calls_are_rejected(provider: Provider, limit: Any) -> None:
    """A ValueError before a statement is sent; `None` and 0 are accepted."""
    with statements_of(provider.engine) as sent:
        for call in (provider.get_runnable_instances, provider.get_runnable_events):
            with pytest.raises(ValueError, match="limit"):
                call(at(0), limit)
    assert sent == []
    for call in (provider.get_runnable_instances, provider.get_runnable_events):
        assert call(at(0), None) == call(at(0), 0) == call(at(0), 2**63) == call(at(0), 10**30) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", "Sleeping"),
        ("status", 1),
        ("definition_id", 7),
        ("definition_id", "\0"),
        ("reference", "\ud83d"),
        ("root_workflow_id", ["root"]),
        ("version", "1"),
        ("version", True),
        ("version", 2**63),
        ("created_from", NAIVE),
        ("created_to", "2030-01-01"),
    ],
)
def test_invalid_filters_are_rejected(provider: Provider, path: str, value: Any) -> None:
    """A SerializationError with the name of the filter, before a statement is sent."""
    with statements_of(provider.engine) as sent, pytest.raises(SerializationError) as caught:
        provider.find_workflows(**{path: value})
    assert caught.value.path == path
    assert sent == []


def test_find_workflows_does_not_load_pointers(provider: Provider, sql: Sql) -> None:
    """A workflow with a corrupt pointer is listed."""
    id = provider.create_new_workflow(workflow(pointer("a"), next_execution=ms(1)))
    sql("UPDATE wfc.execution_pointers SET status = 'Nonsense'")
    assert ids(provider) == [id]
