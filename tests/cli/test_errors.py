"""`errors` filters by workflow, step and time, and groups errors by kind."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import START, order
from wfe_postgres import ExecutionError, ExecutionPointer, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.cli import error_queries

Sql = Callable[..., list[tuple[Any, ...]]]


def test_errors_filters_by_workflow_and_time(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    provider.persist_errors([ExecutionError("other", "p", "OSError: full")])

    def found(*options: str) -> list[str]:
        return [it["message"].split(":")[0] for it in json.loads(succeeded(cli("errors", *options, "--json")).output)]

    assert found() == ["OSError", "ValueError", "TimeoutError"]
    assert found(created.id) == found(created.name) == ["ValueError", "TimeoutError"]
    assert found("--since", "1d") == ["OSError"]
    assert found("--limit", "2") == ["OSError", "ValueError"]
    assert found(created.name, "--since", "2026-02-01") == ["ValueError"]


@pytest.mark.usefixtures("columns")
def test_errors_on_terminal_keep_line_breaks(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    lines = succeeded(cli("errors", created.name)).lines
    assert lines[-5:] == [
        "2026-01-31 12:00:00  do_two",
        "  workflow order-4711",
        "  pointer two",
        "  TimeoutError: the warehouse",
        "    did not answer",
    ]


@pytest.fixture
def raised(provider: PostgresPersistenceProvider) -> Callable[..., None]:
    """Stores errors of the step `charge` of a workflow, one second apart, the last one first."""

    def store(workflow: str, *messages: str, step: str = "charge", definition: str = "order") -> None:
        pointers = [ExecutionPointer(7, id=f"{workflow}-p", step_name=step)]
        created = WorkflowInstance(definition, 1, id=workflow, name=f"{workflow}!", execution_pointers=pointers)
        provider.create_new_workflow(created)
        provider.persist_errors(
            [
                ExecutionError(workflow, f"{workflow}-p", message, error_time=START - timedelta(seconds=n))
                for n, message in enumerate(messages)
            ]
        )

    return store


def test_errors_filters_by_step(cli: Command, raised: Callable[..., None]) -> None:
    raised("one", "first", "second")
    raised("two", "third", step="ship")

    def found(*options: str) -> list[tuple[str, str, str]]:
        listed = json.loads(succeeded(cli("errors", *options, "--json")).output)
        return [(it["message"], it["workflow"], it["step"]) for it in listed]

    assert found("--step", "charge") == [("first", "one!", "charge"), ("second", "one!", "charge")]
    assert found("--step", "two-p") == found("two!", "--step", "7") == [("third", "two!", "ship")]
    assert found("two", "--step", "charge") == found("--step", "unknown") == []


def test_errors_of_removed_workflow_and_pointer_are_listed(
    cli: Command, provider: PostgresPersistenceProvider, columns: int
) -> None:
    provider.persist_errors([ExecutionError("gone", "p", "lost", error_time=START)])
    expected = ["2026-01-31 12:00:00  unknown step", "  workflow gone (not stored)", "  pointer p", "  lost"]
    assert succeeded(cli("errors")).lines == expected
    assert succeeded(cli("errors", "--group")).lines[0] == "1 error  unknown step"
    assert error_line(cli("errors", "gone"), 1) == "there is no workflow 'gone'"


def test_errors_with_equal_shape_are_one_kind(cli: Command, raised: Callable[..., None]) -> None:
    raised("one", "Timeout: no answer from 10.0.0.1:80 in 30 s\nmore", "Timeout: no answer from 10.0.0.2:80 in 31 s")
    raised("two", "KeyError: 'id'", "  \nTimeout: no answer from 10.0.0.3:80 in 2 s", "KeyError: 'sku'")
    raised("three", "KeyError: 'sku'", step="ship")
    raised("four", "KeyError: 'sku'", definition="parcel")
    found = json.loads(succeeded(cli("errors", "--group", "--json")).output)
    facts = [(it["errors"], it["workflows"], it["definition_id"], it["step"], it["message"]) for it in found]
    assert facts[:2] == [
        (3, 2, "order", "charge", "Timeout: no answer from 10.0.0.1:80 in 30 s"),
        (2, 1, "order", "charge", "KeyError: 'id'"),
    ]
    assert sorted(facts[2:]) == [
        (1, 1, "order", "ship", "KeyError: 'sku'"),
        (1, 1, "parcel", "charge", "KeyError: 'sku'"),
    ]
    assert (found[0]["first"], found[0]["last"]) == ("2026-01-31T11:59:59+00:00", "2026-01-31T12:00:00+00:00")
    assert len(json.loads(succeeded(cli("errors", "two!", "--group", "--json")).output)) == 2
    assert json.loads(succeeded(cli("errors", "--group", "--json", "--since", "2026-02-01")).output) == []


@pytest.mark.parametrize(
    ("one", "other", "is_one_kind"),
    [
        ("HTTP 503 from payments", "HTTP 500 from payments", True),
        ("no order 5f3a-9b in store", "no order 00ff-12 in store", True),
        ('file "/tmp/a" is missing', 'file "/var/b" is missing', True),
        ("can't charge the card", "can't ship the parcel", False),
        ("connection lost", "connection refused", False),
        ("倉庫 1 が応答しません", "倉庫 2 が応答しません", True),
        ("x" * 200 + "a", "x" * 200 + "b", True),
        ("", "\n", True),
    ],
)
def test_kind_does_not_depend_on_quoted_texts_and_numbers(
    cli: Command, raised: Callable[..., None], one: str, other: str, is_one_kind: bool
) -> None:
    raised("w", one, other)
    assert len(json.loads(succeeded(cli("errors", "--group", "--json")).output)) == (1 if is_one_kind else 2)


def raised_by(exception: str) -> str:
    """The traceback of an exception that was raised while another one was handled."""
    frame = '  File "/srv/shop/payment.py", line 41, in charge\n    send()\n           ^^^^^^\n'
    first = f"Traceback (most recent call last):\n{frame}OSError: closed"
    return f"{first}\n\nDuring handling of it:\n\nTraceback (most recent call last):\n{frame * 2}{exception}\n"


def test_kind_of_traceback_is_that_of_its_exception(
    cli: Command, provider: PostgresPersistenceProvider, raised: Callable[..., None], columns: int
) -> None:
    raised("w", raised_by("shop.Timeout: after 30 s\n  to b\nno"), raised_by("shop.Timeout: after 3 s"), raised_by("E"))
    lines = succeeded(cli("errors", "--group")).lines
    assert (lines[0], lines[2]) == ("2 errors  charge of order", "  shop.Timeout: after 30 s")
    assert (lines[4], lines[6]) == ("1 error  charge of order", "  E")
    assert lines[7:] == []
    assert [line for line in succeeded(cli("show", "w")).lines if "Timeout" in line] == [
        "  shop.Timeout: after 30 s (3 errors)"
    ]
    assert ("shop.Timeout" in "\n".join(succeeded(cli("list")).lines)) or columns == 80
    assert any("in charge" in line for line in succeeded(cli("errors", "w")).lines)  # in full


@pytest.mark.parametrize("message", ["Traceback lost", 'File "a"\n  File "b"\nc', 'Traceback (\n  File "x", line 1'])
def test_message_that_is_no_whole_traceback_is_shown_from_its_beginning(
    cli: Command, raised: Callable[..., None], message: str
) -> None:
    raised("w", message)
    [found] = json.loads(succeeded(cli("errors", "--group", "--json")).output)
    assert found["message"] == message.splitlines()[0]
    assert message.splitlines()[0] in succeeded(cli("show", "w")).output


def test_kinds_beyond_the_limit_are_counted(cli: Command, raised: Callable[..., None], columns: int) -> None:
    raised("w", "one", "one", "two", "two", "two", "three")
    assert succeeded(cli("errors", "--group", "--limit", "1")).lines == [
        "3 errors  charge of order",
        "  2026-01-31 11:59:56 to 2026-01-31 11:59:58, 1 workflow",
        "  two",
        "2 more kinds with 3 errors: see --limit",
    ]


def test_limit_of_grouped_errors_is_reported(
    cli: Command, raised: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_queries, "MAX_GROUPED", 2)
    raised("w", "one", "two", "three")
    result = cli("errors", "--group")
    assert (result.code, len(result.lines)) == (0, 3)
    assert result.reported_errors == "wfe-postgres: only the newest 2 errors were grouped\n"


def test_errors_with_unreadable_times_are_left_out(cli: Command, raised: Callable[..., None], sql: Sql) -> None:
    raised("w", "one", "two")
    sql("UPDATE wfc.execution_errors SET error_time = 'infinity' WHERE message = 'one'")
    assert [it["message"] for it in json.loads(succeeded(cli("errors", "--group", "--json")).output)] == ["two"]
    result = cli("errors", "--json")
    assert [it["message"] for it in json.loads(result.output)] == ["two"]
    assert result.reported_errors.startswith("wfe-postgres: left out of a list: execution_errors row ")
