"""`list`, `events` and `errors` show as many rows as the limit, and say if there are more."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.cli.running import Command, succeeded
from tests.cli.scenarios import START
from wfe_postgres import Event, ExecutionError, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.statements import queries

MORE = "There are more: see --limit"


@pytest.fixture
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page of the provider looks at one workflow."""
    cached = queries.find_workflows, queries.count_matches
    with monkeypatch.context() as patched:
        for name in ("WINDOW", "FEW"):
            patched.setattr(queries, name, 1)
        for function in cached:
            function.cache_clear()
        yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("_short_pages")
def test_list_continues_where_the_provider_found_none(cli: Command, provider: PostgresPersistenceProvider) -> None:
    for number in range(6):
        version, time = 2 if number < 3 else 1, START + timedelta(days=number)
        provider.create_new_workflow(WorkflowInstance("order", version, id=f"w{number}", create_time=time))
    page = provider.find_workflows(definition_id="order", version=2)
    assert (page.items, page.next_cursor is None) == ([], False)

    def found(*options: str) -> tuple[list[str], bool]:
        page = json.loads(succeeded(cli("list", "--definition", "order", *options, "--json")).output)
        return [it["id"] for it in page["items"]], page["next_cursor"] is not None

    assert found("--version", "2") == (["w2", "w1", "w0"], False)
    assert found("--version", "2", "--limit", "2") == (["w2", "w1"], True)
    assert found("--version", "3") == ([], False)


def test_list_finds_root_by_name(cli: Command, provider: PostgresPersistenceProvider) -> None:
    provider.create_new_workflow(WorkflowInstance("order", 1, id="root", name="order-1"))
    provider.create_new_workflow(WorkflowInstance("order", 1, id="child", root_workflow_id="root"))
    for root in "root", "order-1":
        assert [line.split()[0] for line in succeeded(cli("list", "--root", root)).lines[1:]] == ["child"]
    assert succeeded(cli("list", "--root", "unknown")).lines == ["No workflows."]


@pytest.mark.parametrize("name", [("events",), ("events", "--name", "paid", "--key", "k"), ("errors",)])
def test_rows_beyond_the_limit_are_mentioned(
    cli: Command, provider: PostgresPersistenceProvider, name: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        time = START + timedelta(days=number)
        provider.create_event(Event("paid", "k", id=f"e{number}", event_time=time))
        provider.persist_errors([ExecutionError("w", "p", f"m{number}", error_time=time)])
    result = cli(*name, "--limit", "2")
    assert (result.code, len(result.lines), result.reported_errors) == (0, 3, f"{MORE}\n")
    assert len(succeeded(cli(*name, "--limit", "3")).lines) == 4
    assert len(json.loads(succeeded(cli(*name, "--limit", "2", "--json")).output)) == 2
    assert len(succeeded(cli(*name, "--limit", str(2**63 - 1))).lines) == 4
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert succeeded(cli(*name, "--limit", "2")).lines[-1] == MORE


@pytest.mark.usefixtures("columns")
def test_long_name_of_event_leaves_room_for_its_key(
    cli: Command, provider: PostgresPersistenceProvider, columns: int
) -> None:
    provider.create_event(Event("n", "customer-4711@example.com"))
    assert "customer-4711@example.com" in succeeded(cli("events")).output
    provider.create_event(Event("n" * 300, "customer-4711@example.com"))
    assert "customer-4711@" in succeeded(cli("events")).output
