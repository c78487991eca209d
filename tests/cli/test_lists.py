"""The filters, pages and numbers of `list`, `events` and `status`."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import START, everything, finished, order
from wfe_postgres import Event, ExecutionError, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli.list_tables import BY_IMPORTANCE, ERROR, GAP, WORKFLOW, widths_of

Sql = Callable[..., list[tuple[Any, ...]]]

TABLES = [
    "definition_sequences",
    "event_subscriptions",
    "events",
    "execution_errors",
    "scheduled_commands",
    "workflows",
    "execution_pointers",
]


def listed(command: Command, *options: str) -> list[str]:
    """The names of the workflows that `list` prints; checks that text and JSON output are equal."""
    seen = [line.split()[0] for line in succeeded(command("list", *options)).lines[1:] if line]
    page = json.loads(succeeded(command("list", *options, "--json")).output)
    assert [item["name"] for item in page["items"]] == seen
    return seen


@pytest.fixture
def workflows(provider: PostgresPersistenceProvider) -> None:
    """Six workflows, created one day apart, the newest first."""
    now = datetime.now(UTC)
    for n in range(6):
        provider.create_new_workflow(
            WorkflowInstance(
                "even" if n % 2 == 0 else "odd",
                n // 2,
                name=f"w{n}",
                status=WorkflowStatus.SUSPENDED if n > 3 else WorkflowStatus.RUNNABLE,
                reference=f"r{n}",
                root_workflow_id="root" if n == 1 else None,
                create_time=now - timedelta(days=n, hours=1),
            )
        )


@pytest.mark.usefixtures("workflows")
def test_list_filters_workflows(cli: Command) -> None:
    assert listed(cli) == ["w0", "w1", "w2", "w3", "w4", "w5"]
    assert listed(cli, "--status", "suspended") == ["w4", "w5"]
    assert listed(cli, "--definition", "odd") == ["w1", "w3", "w5"]
    assert listed(cli, "--version", "1") == ["w2", "w3"]
    assert listed(cli, "--reference", "r4") == ["w4"]
    assert listed(cli, "--root", "root") == ["w1"]  # not stored
    assert listed(cli, "--from", "3d") == ["w0", "w1", "w2"]
    assert listed(cli, "--to", "96h") == ["w4", "w5"]
    assert listed(cli, "--from", "4d", "--to", "1d", "--definition", "odd") == ["w1", "w3"]


@pytest.mark.usefixtures("workflows")
def test_list_returns_pages_with_cursor(cli: Command) -> None:
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(3):
        page = json.loads(succeeded(cli("list", "--limit", "2", "--json", *cursor)).output)
        seen += [item["name"] for item in page["items"]]
        cursor = ["--cursor", page["next_cursor"]]
    assert seen == ["w0", "w1", "w2", "w3", "w4", "w5"]
    assert page["next_cursor"] is None


@pytest.mark.usefixtures("workflows")
def test_list_prints_cursor_of_next_page_on_stderr(cli: Command) -> None:
    first = cli("list", "--limit", "4")
    assert first.code == 0
    words = first.reported_errors.split()  # on standard error, so that standard output contains only workflows
    assert words[:3] == ["More", "with", "--cursor"]
    assert [line.split()[0] for line in succeeded(cli("list", *words[2:])).lines[1:]] == ["w4", "w5"]
    assert "cursor" in error_line(cli("list", "--cursor", "x"), 2)


def test_time_without_offset_is_utc(cli: Command, provider: PostgresPersistenceProvider) -> None:
    order(provider)  # at noon
    assert listed(cli, "--from", "2026-01-31T12:00") == ["order-4711"]
    assert listed(cli, "--from", "2026-01-31T12:00:01") == []
    assert listed(cli, "--from", "2026-01-31T13:00:01+01:00") == []
    assert listed(cli, "--from", "2026-01-31T13:00+01:00", "--to", "2026-02-01") == ["order-4711"]


@pytest.mark.parametrize("text", ["soon", "3", "3y", "2026-13-01", "99999999w", ""])
def test_invalid_time_is_rejected(cli: Command, text: str) -> None:
    result = cli("list", "--from", text)
    assert result.code == 2
    assert "expected a duration ago" in result.reported_errors


def test_unreadable_workflow_is_skipped_and_reported(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    everything(provider)
    sql("UPDATE wfc.workflows SET status = 'Odd' WHERE name = 'mailing'")
    result = cli("list", "--definition", "mailing", "--json")
    assert (result.code, json.loads(result.output)["items"]) == (0, [])
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: left out of a list: workflows row ")


def test_events_lists_unprocessed_or_matching_events(cli: Command, provider: PostgresPersistenceProvider) -> None:
    now = datetime.now(UTC)
    for n, key in enumerate(["a", "b", "a", "a"]):
        at = now + timedelta(hours=n - 2)
        provider.create_event(Event("paid", key, id=f"e{n}", event_time=at, is_processed=n == 0))

    def found(*options: str) -> list[str]:
        shown = [line.split()[-1] for line in cli("events", *options).lines[1:]]
        events = json.loads(succeeded(cli("events", *options, "--json")).output)
        assert [event["id"] for event in events] == shown
        return shown

    assert found() == ["e1", "e2", "e3"]  # including future events
    assert found("--limit", "2") == ["e1", "e2"]
    assert found("--name", "paid", "--key", "a") == ["e0", "e2", "e3"]
    assert found("--name", "paid", "--key", "a", "--limit", "2") == ["e2", "e3"]
    assert found("--name", "paid", "--key", "none") == []
    assert cli("events", "--name", "paid").code == 2
    assert cli("events", "--key", "a").code == 2


def test_status_contains_statistics_and_table_sizes(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    everything(provider)
    sql("DELETE FROM wfc.execution_pointers WHERE id = 'n1'")
    sql("SELECT pg_stat_force_next_flush()")
    sql("ANALYZE")
    found = json.loads(succeeded(cli("status", "--json")).output)
    statistics = found["statistics"]
    assert statistics["workflows"] == {"Runnable": 3, "Suspended": 0, "Complete": 5, "Terminated": 0}
    assert (statistics["runnable_due"], statistics["unprocessed_events"], statistics["due_commands"]) == (2, 2, 1)
    assert statistics["oldest_unprocessed_event"] == START.isoformat()
    states = ("open", "held", "expired")
    assert [statistics[f"{state}_subscriptions"] for state in states] == [2, 2, 1]
    tables = {table["table"]: table for table in found["tables"]}
    assert list(tables) == TABLES
    for name, table in tables.items():
        [(rows, size, indexes)] = sql(
            f"SELECT count(*), pg_table_size('wfc.{name}'), pg_indexes_size('wfc.{name}') FROM wfc.{name}"
        )
        assert (table["bytes"], table["index_bytes"]) == (size, indexes)
        assert rows <= table["rows"] <= 2 * rows  # a connection may still report what it inserted before the ANALYZE
    assert tables["execution_pointers"]["dead_rows"] >= 1
    assert tables["execution_pointers"]["last_vacuum"] is None
    sql("VACUUM wfc.execution_pointers")
    tables = {it["table"]: it for it in json.loads(succeeded(cli("status", "--json")).output)["tables"]}
    assert tables["execution_pointers"]["dead_rows"] == 0
    assert tables["execution_pointers"]["last_vacuum"] is not None


@pytest.mark.usefixtures("columns")
def test_status_fits_on_one_screen(cli: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    lines = succeeded(cli("status")).lines
    assert len(lines) <= 23  # one line is left for the prompt
    text = re.sub(" +", " ", "\n".join(lines))
    for words in (
        "Store in schema wfc, revision ",
        "Runnable 3 due workflows 2 now",
        "Terminated 0 open subscriptions 2",
        "all 8 held tokens 2",
        "expired tokens 1",
    ):
        assert words in text, words
    assert [line.split()[0] for line in lines[-len(TABLES) :]] == TABLES
    assert "…" not in text


def test_status_uses_given_schema(cli: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    assert succeeded(cli("upgrade", "--schema", "tenant")).code == 0
    found = json.loads(succeeded(cli("status", "--schema", "tenant", "--json")).output)
    assert set(found["statistics"]["workflows"].values()) == {0}
    assert len(found["tables"]) == len(TABLES)


def test_list_takes_several_statuses(cli: Command, provider: PostgresPersistenceProvider) -> None:
    for status in WorkflowStatus:
        provider.create_new_workflow(WorkflowInstance("order", 1, id=status, status=status))
    page = json.loads(succeeded(cli("list", "--status", "complete", "--status", "runnable", "--json")).output)
    assert {it["id"] for it in page["items"]} == {"Complete", "Runnable"}


@pytest.mark.usefixtures("columns")
def test_list_shows_last_error_of_unfinished_workflows(
    cli: Command, provider: PostgresPersistenceProvider, columns: int
) -> None:
    order(provider)
    finished(provider, 1, WorkflowStatus.COMPLETE, START)
    found = succeeded(cli("list", "--definition", "order")).lines[-1]
    assert "ValueError: no such" in found
    assert "once" not in "\n".join(succeeded(cli("list")).lines)


def test_list_shows_below_a_workflow_what_has_no_room_beside_it(
    cli: Command, provider: PostgresPersistenceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    suspended = WorkflowInstance("order", 1, status=WorkflowStatus.SUSPENDED)
    failed = WorkflowInstance("order", 1, next_execution=None, reference="r" * 40)
    for it in (suspended, failed):
        provider.create_new_workflow(it)
    provider.persist_errors([ExecutionError(failed.id, "p", "KeyError: " + "no such shelf " * 9)])
    above, below, last = succeeded(cli("list")).lines[2:]
    assert above.startswith(f"{failed.id}  order v1")
    assert below == f"  waits  {'r' * 35}…  KeyError: no such shelf no such …"
    assert last.startswith(suspended.id)


def test_list_in_pipe_shows_every_column(cli: Command, provider: PostgresPersistenceProvider) -> None:
    order(provider)
    head, row = succeeded(cli("list", "--definition", "order")).lines
    for name, value in (
        ("reference", "4711"),
        ("next", "waits"),
        ("last error", "ValueError: no such shelf no such shelf"),
    ):
        assert row[head.index(name) :].startswith(value)


def test_less_important_columns_are_left_out() -> None:
    needed = dict(zip(BY_IMPORTANCE, (36, 10, 8, 16, 5, 200, 12), strict=True))
    assert [it.name for it in widths_of(needed, 80)] == ["workflow", "status", "definition", "created, UTC"]
    assert [it.name for it in widths_of(needed, 110)][4:] == ["next", "last error"]
    assert [it.name for it in widths_of(needed | {ERROR: 0}, 110)][4:] == ["next", "reference"]
    for room in range(40, 200):
        widths = widths_of(needed, room)
        assert sum(widths.values()) + GAP * (len(widths) - 1) <= room
        assert widths[WORKFLOW] == 36
