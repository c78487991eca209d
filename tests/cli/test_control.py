"""`suspend`, `resume`, `retry`, `terminate` and `publish`."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import order
from wfe_postgres import (
    ExecutionPointer,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowInstance,
    WorkflowStatus,
)

Sql = Callable[..., list[tuple[Any, ...]]]
STATUS = {
    "suspend": WorkflowStatus.SUSPENDED,
    "resume": WorkflowStatus.RUNNABLE,
    "terminate": WorkflowStatus.TERMINATED,
}


def test_suspend_changes_only_the_status(cli: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    result = succeeded(cli("suspend", expected.name))
    assert result.output == "The workflow order-4711 is now Suspended; it was Runnable.\n"
    expected.status = WorkflowStatus.SUSPENDED
    assert provider.get_workflow_instance(expected.id) == expected


def test_resume_makes_workflow_due(cli: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    succeeded(cli("suspend", expected.id))
    before = datetime.now(UTC)
    assert (
        succeeded(cli("resume", expected.id)).output == "The workflow order-4711 is now Runnable; it was Suspended.\n"
    )
    found = provider.get_workflow_instance(expected.id)
    assert found.next_execution is not None
    due = datetime.fromtimestamp(found.next_execution / 1000, UTC)
    assert before - timedelta(milliseconds=1) <= due <= datetime.now(UTC)
    assert provider.get_runnable_instances(datetime.now(UTC)) == [expected.id]
    assert not {it.status for it in found.execution_pointers} & {PointerStatus.RUNNING, PointerStatus.FAILED}


def test_terminate_sets_complete_time(cli: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    before = datetime.now(UTC)
    assert (
        succeeded(cli("terminate", expected.id)).output
        == "The workflow order-4711 is now Terminated; it was Runnable.\n"
    )
    found = provider.get_workflow_instance(expected.id)
    assert found.complete_time is not None
    assert before <= found.complete_time <= datetime.now(UTC)
    expected.status, expected.complete_time = WorkflowStatus.TERMINATED, found.complete_time
    assert found == expected


@pytest.mark.parametrize("name", ["suspend", "resume"])
def test_command_without_effect_does_not_save(cli: Command, provider: PostgresPersistenceProvider, name: str) -> None:
    created = WorkflowInstance("order", 1, status=STATUS[name], next_execution=None)
    provider.create_new_workflow(created)
    before = provider.get_workflow_instance(created.id)
    assert succeeded(cli(name, created.id)).output == f"The workflow {created.id} is already {STATUS[name]}.\n"
    after = provider.get_workflow_instance(created.id)
    assert (after, after.revision) == (before, before.revision)


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize("status", [WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED])
def test_finished_workflow_is_rejected(
    cli: Command, provider: PostgresPersistenceProvider, name: str, status: WorkflowStatus
) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    created = WorkflowInstance("order", 1, name="done", status=status, complete_time=at)
    provider.create_new_workflow(created)
    before = provider.get_workflow_instance(created.id)
    line = error_line(cli(name, created.id), 1)
    assert line == f"workflow 'done' is finished: it has been {status} since 2026-01-31 12:00:00 UTC"
    after = provider.get_workflow_instance(created.id)
    assert (after, after.revision) == (before, before.revision)


@pytest.mark.parametrize("name", STATUS)
def test_json_output_contains_previous_status(cli: Command, provider: PostgresPersistenceProvider, name: str) -> None:
    before = WorkflowStatus.SUSPENDED if name == "resume" else WorkflowStatus.RUNNABLE
    created = WorkflowInstance("order", 1, status=before)
    provider.create_new_workflow(created)
    found = json.loads(succeeded(cli(name, created.id, "--json")).output)
    assert found == {"id": created.id, "name": created.id, "before": before, "status": STATUS[name]}


def test_several_workflows_are_changed_one_by_one(cli: Command, provider: PostgresPersistenceProvider) -> None:
    """One that is unknown does not stop the others, and the exit code says so."""
    for name in ("one", "two"):
        provider.create_new_workflow(WorkflowInstance("order", 1, id=name))
    result = cli("suspend", "one", "unknown", "two")
    assert result.code == 1
    assert result.lines == [
        "The workflow one is now Suspended; it was Runnable.",
        "The workflow two is now Suspended; it was Runnable.",
    ]
    assert result.reported_errors == "wfe-postgres: there is no workflow 'unknown'\n"


def many(provider: PostgresPersistenceProvider) -> None:
    """A root with two children, and another workflow."""
    for name, root in (("root", None), ("child", "root"), ("other child", "root"), ("alone", None)):
        provider.create_new_workflow(WorkflowInstance("order", 1, id=name, root_workflow_id=root))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--definition", "order"), {"root", "child", "other child", "alone"}),
        (("--root", "root"), {"root", "child", "other child"}),
        (("--status", "runnable", "--status", "suspended"), {"root", "child", "other child", "alone"}),
        (("--status", "suspended"), set()),
    ],
)
def test_workflows_are_selected_by_options(
    cli: Command, provider: PostgresPersistenceProvider, options: tuple[str, ...], expected: set[str]
) -> None:
    many(provider)
    result = succeeded(cli("terminate", *options, "--yes"))
    assert len(result.lines) == len(expected)
    found = provider.find_workflows(status=WorkflowStatus.TERMINATED).items
    assert {it.id for it in found} == expected


def test_selection_that_is_not_confirmed_changes_nothing(
    cli: Command, provider: PostgresPersistenceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(provider)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    result = cli("suspend", "--definition", "order")
    assert result.code != 0
    assert provider.find_workflows(status=WorkflowStatus.SUSPENDED).items == []


@pytest.mark.parametrize("arguments", [(), ("one", "--definition", "order")])
def test_names_or_options_are_needed(cli: Command, arguments: tuple[str, ...]) -> None:
    result = cli("suspend", *arguments)
    assert result.code == 2
    assert "--status, --definition or --root" in " ".join(result.reported_errors.split())


def test_unreadable_workflow_is_suspended_by_its_id(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    created = WorkflowInstance("order", 1, execution_pointers=[ExecutionPointer(1)])
    provider.create_new_workflow(created)
    sql("UPDATE wfc.execution_pointers SET status = 'Unknown'")
    assert succeeded(cli("suspend", created.id)).output == f"The workflow {created.id} is now Suspended.\n"


def test_retry_says_which_steps_are_run_again(cli: Command, provider: PostgresPersistenceProvider) -> None:
    failed = ExecutionPointer(3, step_name="charge", status=PointerStatus.FAILED, retry_count=4)
    created = WorkflowInstance("order", 1, id="w", status=WorkflowStatus.SUSPENDED, execution_pointers=[failed])
    provider.create_new_workflow(created)
    assert succeeded(cli("retry", "w")).lines == [
        "The workflow w is now Runnable; it was Suspended.",
        "  step 3 charge failed and is run again (5 attempts before)",
    ]
    [pointer] = provider.get_workflow_instance("w").execution_pointers
    assert (pointer.status, pointer.retry_count) == (PointerStatus.PENDING, 0)


def test_resume_can_skip_failed_steps(cli: Command, provider: PostgresPersistenceProvider) -> None:
    failed = ExecutionPointer(3, status=PointerStatus.FAILED)
    created = WorkflowInstance("order", 1, status=WorkflowStatus.SUSPENDED, execution_pointers=[failed])
    provider.create_new_workflow(created)
    succeeded(cli("resume", created.id, "--skip-failed"))
    assert provider.get_workflow_instance(created.id).execution_pointers[0].status is PointerStatus.SKIPPED


def test_event_is_published_once(cli: Command, provider: PostgresPersistenceProvider) -> None:
    arguments = ("publish", "paid", "4711", "--data", '{"amount": 10}', "--id", "webhook-1")
    assert succeeded(cli(*arguments)).output == "The event webhook-1 is published.\n"
    assert provider.get_event("webhook-1").event_data == {"amount": 10}
    assert error_line(cli(*arguments), 1) == "an event with the id 'webhook-1' exists"
    event_id = json.loads(succeeded(cli("publish", "paid", "4712", "--json")).output)["id"]
    assert provider.get_event(event_id).event_data is None


def test_invalid_event_data_is_refused_without_quoting_it(cli: Command) -> None:
    result = cli("publish", "paid", "4711", "--data", '{"card": s3cret-pw}')
    assert result.code == 2
    assert "invalid JSON at character 10" in result.reported_errors
    assert "s3cret" not in result.output + result.reported_errors


def test_list_takes_several_statuses(cli: Command, provider: PostgresPersistenceProvider) -> None:
    for status in WorkflowStatus:
        provider.create_new_workflow(WorkflowInstance("order", 1, id=status, status=status))
    page = json.loads(succeeded(cli("list", "--status", "complete", "--status", "runnable", "--json")).output)
    assert {it["id"] for it in page["items"]} == {"Complete", "Runnable"}
