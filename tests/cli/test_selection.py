"""`suspend`, `resume`, `retry` and `terminate` on several workflows, named or selected by filters."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from wfe_postgres import (
    ExecutionPointer,
    PersistenceError,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowInstance,
    WorkflowStatus,
)

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def family(provider: PostgresPersistenceProvider) -> None:
    """A root with two children, and another workflow."""
    for name, root, definition in (
        ("root", None, "order"),
        ("child", "root", "order"),
        ("other child", "root", "parcel"),
        ("alone", None, "order"),
    ):
        provider.create_new_workflow(WorkflowInstance(definition, 1, id=name, name=f"{name}!", root_workflow_id=root))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the standard input of the command."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def of_status(provider: PostgresPersistenceProvider, status: WorkflowStatus) -> set[str]:
    """The ids of the workflows with this status."""
    return {it.id for it in provider.find_workflows(status=status).items}


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--definition", "order"), {"root", "child", "alone"}),
        (("--root", "root"), {"root", "child", "other child"}),
        (("--root", "root!"), {"root", "child", "other child"}),
        (("--root", "root", "--definition", "parcel"), {"other child"}),
        (("--root", "root", "--definition", "order"), {"root", "child"}),
        (("--status", "runnable", "--status", "suspended"), {"root", "child", "other child", "alone"}),
    ],
)
def test_workflows_are_selected_by_filters(
    cli: Command, provider: PostgresPersistenceProvider, options: tuple[str, ...], expected: set[str]
) -> None:
    result = succeeded(cli("terminate", *options, "--yes"))
    assert len(result.lines) == len(expected)
    assert of_status(provider, WorkflowStatus.TERMINATED) == expected


@pytest.mark.usefixtures("family")
def test_more_workflows_than_a_page_holds_are_selected(
    cli: Command, provider: PostgresPersistenceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wfe_postgres.cli.changing.PAGE", 1)
    succeeded(cli("terminate", "--definition", "order", "--yes"))
    assert of_status(provider, WorkflowStatus.TERMINATED) == {"root", "child", "alone"}


@pytest.mark.usefixtures("family")
def test_workflows_in_another_status_are_not_selected(cli: Command, provider: PostgresPersistenceProvider) -> None:
    provider.terminate_workflow("root")
    result = succeeded(cli("suspend", "--root", "root", "--yes"))
    assert len(result.lines) == 2
    assert of_status(provider, WorkflowStatus.SUSPENDED) == {"child", "other child"}
    assert succeeded(cli("suspend", "--root", "root", "--yes")).output == "No workflow matches.\n"
    assert succeeded(cli("suspend", "--root", "root", "--yes", "--json")).output == ""
    assert error_line(cli("suspend", "--root", "unknown", "--yes"), 1) == "there is no workflow 'unknown'"


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize("text", ["n\n", "", "\n"])
def test_selection_that_is_not_confirmed_changes_nothing(
    cli: Command, provider: PostgresPersistenceProvider, answer: Callable[[str], None], text: str
) -> None:
    answer(text)
    result = cli("terminate", "--status", "runnable")
    assert (result.code, result.output) == (1, "")
    assert result.reported_errors.splitlines()[:3] == [
        "4 workflows match:",
        "  3 order v1, Runnable",
        "  1 parcel v1, Runnable",
    ]
    assert "Terminate them? This cannot be undone. [y/N]: " in result.reported_errors
    assert result.reported_errors.endswith("wfe-postgres: nothing was changed; --yes answers the question\n")
    assert of_status(provider, WorkflowStatus.TERMINATED) == set()


@pytest.mark.usefixtures("family")
def test_closed_standard_input_is_no_answer(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    result = cli("suspend", "--definition", "parcel")
    assert result.code == 1
    assert result.reported_errors.endswith("[y/N]: \nwfe-postgres: nothing was changed; --yes answers the question\n")


@pytest.mark.usefixtures("family")
def test_interrupted_question_changes_nothing(
    cli: Command, provider: PostgresPersistenceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    result = cli("suspend", "--definition", "parcel")
    assert (result.code, result.output) == (130, "")
    assert result.reported_errors.endswith("Suspend it? [y/N]: \n")  # the prompt of the shell begins a line
    assert of_status(provider, WorkflowStatus.SUSPENDED) == set()


@pytest.mark.usefixtures("family")
def test_selection_that_is_confirmed_is_changed(
    cli: Command, provider: PostgresPersistenceProvider, answer: Callable[[str], None]
) -> None:
    answer("y\n")
    result = cli("suspend", "--definition", "parcel")
    assert (result.code, result.lines) == (0, ["The workflow other child! is now Suspended; it was Runnable."])
    assert result.reported_errors.startswith("1 workflow matches:\n")
    assert of_status(provider, WorkflowStatus.SUSPENDED) == {"other child"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("suspend",), "--status, --definition or --root"),
        (("suspend", "one", "--definition", "order"), "--status, --definition or --root"),
        (("suspend", "--status", "suspended"), "suspend is for Runnable workflows"),
        (("resume", "--status", "runnable"), "resume is for Suspended workflows"),
        (("terminate", "--status", "complete"), "terminate is for Runnable and Suspended workflows"),
    ],
)
def test_selection_that_cannot_match_is_rejected(cli: Command, arguments: tuple[str, ...], problem: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.output) == (2, "")
    assert problem in " ".join(result.reported_errors.split())


def test_unknown_workflow_does_not_stop_the_others(cli: Command, provider: PostgresPersistenceProvider) -> None:
    for name in ("one", "two"):
        provider.create_new_workflow(WorkflowInstance("order", 1, id=name))
    result = cli("suspend", "one", "unknown", "two")
    assert result.code == 1
    assert result.lines == [
        "The workflow one is now Suspended; it was Runnable.",
        "The workflow two is now Suspended; it was Runnable.",
    ]
    assert result.reported_errors == "wfe-postgres: there is no workflow 'unknown'\n"


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("55P03", ({"one", "three"}, "workflow 'two': refused (sqlstate 55P03)")),
        (None, ({"one"}, "stopped at workflow 2 of 3; those before it are done")),
    ],
)
def test_change_stops_only_at_an_error_that_concerns_all(
    cli: Command,
    provider: PostgresPersistenceProvider,
    monkeypatch: pytest.MonkeyPatch,
    sqlstate: str | None,
    expected: tuple[set[str], str],
) -> None:
    suspend = PostgresPersistenceProvider.suspend_workflow

    def suspend_workflow(self: PostgresPersistenceProvider, id: str) -> bool:
        if id == "two":
            raise PersistenceError("refused", sqlstate)
        return suspend(self, id)

    for name in ("one", "two", "three"):
        provider.create_new_workflow(WorkflowInstance("order", 1, id=name))
    monkeypatch.setattr(PostgresPersistenceProvider, "suspend_workflow", suspend_workflow)
    result = cli("suspend", "one", "two", "three")
    changed, message = expected
    assert result.code == 3
    assert f"wfe-postgres: {message}\n" in result.reported_errors
    assert of_status(provider, WorkflowStatus.SUSPENDED) == changed


@pytest.mark.parametrize("wanted", ["w", "by-name"])
@pytest.mark.parametrize("name", ["suspend", "terminate", "retry"])
def test_unreadable_workflow_is_changed(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql, name: str, wanted: str
) -> None:
    created = WorkflowInstance("order", 1, id="w", name="by-name", execution_pointers=[ExecutionPointer(1)])
    provider.create_new_workflow(created)
    if name == "retry":
        provider.suspend_workflow("w")
    sql("UPDATE wfc.execution_pointers SET status = 'Unknown'")
    sql("UPDATE wfc.workflows SET complete_time = 'infinity'")
    assert succeeded(cli(name, wanted)).lines[0].startswith("The workflow by-name is now ")


def test_retry_says_which_steps_are_run_again(cli: Command, provider: PostgresPersistenceProvider) -> None:
    pointers = [
        ExecutionPointer(1, status=PointerStatus.COMPLETE),
        ExecutionPointer(2, step_name="charge", status=PointerStatus.FAILED, retry_count=4),
        ExecutionPointer(3, id="p", status=PointerStatus.RUNNING),
    ]
    created = WorkflowInstance("order", 1, id="w", status=WorkflowStatus.SUSPENDED, execution_pointers=pointers)
    provider.create_new_workflow(created)
    assert succeeded(cli("retry", "w")).lines == [
        "The workflow w is now Runnable; it was Suspended.",
        "  charge is run again; it failed after 5 attempts.",
        "  step 3 is run again; it was running.",
    ]
    assert [it.status for it in provider.get_workflow_instance("w").execution_pointers[1:]] == ["Pending", "Pending"]
    assert succeeded(cli("retry", "w")).output == "The workflow w is already Runnable.\n"
    provider.suspend_workflow("w")
    assert succeeded(cli("retry", "w")).lines[1:] == ["  No step had failed; it continues where it was."]


def test_retry_lists_a_limited_number_of_steps(cli: Command, provider: PostgresPersistenceProvider) -> None:
    pointers = [ExecutionPointer(1, step_name=f"s{n}", status=PointerStatus.FAILED) for n in range(1000)]
    created = WorkflowInstance("order", 1, id="w", status=WorkflowStatus.SUSPENDED, execution_pointers=pointers)
    provider.create_new_workflow(created)
    found = json.loads(succeeded(cli("retry", "--definition", "order", "--yes", "--json")).output)
    assert [step["step_name"] for step in found["steps"]] == [it.step_name for it in pointers]
    created.status = WorkflowStatus.SUSPENDED
    created.revision = None
    provider.persist_workflow(created)
    lines = succeeded(cli("retry", "--definition", "order", "--yes")).lines
    assert lines[10:] == ["  s9 is run again; it failed after 1 attempt.", "  990 more steps are run again."]


def test_resume_can_skip_failed_steps(cli: Command, provider: PostgresPersistenceProvider) -> None:
    failed = ExecutionPointer(3, status=PointerStatus.FAILED)
    created = WorkflowInstance("order", 1, status=WorkflowStatus.SUSPENDED, execution_pointers=[failed])
    provider.create_new_workflow(created)
    succeeded(cli("resume", created.id, "--skip-failed"))
    assert provider.get_workflow_instance(created.id).execution_pointers[0].status is PointerStatus.SKIPPED


def test_id_takes_precedence_over_name(cli: Command, provider: PostgresPersistenceProvider) -> None:
    for id, name in (("a", "b"), ("b", "c"), ("c", "d")):
        provider.create_new_workflow(WorkflowInstance("order", 1, id=id, name=name))
    succeeded(cli("suspend", "b"))
    assert of_status(provider, WorkflowStatus.SUSPENDED) == {"b"}
    succeeded(cli("suspend", "d"))
    assert of_status(provider, WorkflowStatus.SUSPENDED) == {"b", "c"}
