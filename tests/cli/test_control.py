"""`suspend`, `resume` and `terminate` change only their fields, and keep concurrent writes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import order
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli.control import MAX_ATTEMPTS

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
    found.next_execution = expected.next_execution
    assert found == expected


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


@pytest.fixture
def concurrent_writes(monkeypatch: pytest.MonkeyPatch, sql: Sql) -> Callable[[int, str], list[int]]:
    """Executes a statement between load and save of the command, the given number of times."""

    def install(times: int, statement: str) -> list[int]:
        written: list[int] = []
        save = PostgresPersistenceProvider.persist_workflow

        def persist_workflow(self: PostgresPersistenceProvider, instance: WorkflowInstance) -> None:
            if len(written) < times:
                written.append(len(written) + 1)
                sql(statement, {"number": str(written[-1]), "id": instance.id})
            save(self, instance)

        monkeypatch.setattr(PostgresPersistenceProvider, "persist_workflow", persist_workflow)
        return written

    return install


REFERENCE = "UPDATE wfc.workflows SET reference = %(number)s WHERE id = %(id)s"
COMPLETE = "UPDATE wfc.workflows SET status = 'Complete', complete_time = now() WHERE id = %(id)s AND %(number)s <> ''"


@pytest.mark.parametrize("name", STATUS)
def test_concurrent_writes_are_kept(
    cli: Command, provider: PostgresPersistenceProvider, concurrent_writes: Callable[[int, str], list[int]], name: str
) -> None:
    before = WorkflowStatus.SUSPENDED if name == "resume" else WorkflowStatus.RUNNABLE
    created = WorkflowInstance("order", 1, status=before)
    provider.create_new_workflow(created)
    concurrent_writes(MAX_ATTEMPTS - 1, REFERENCE)
    succeeded(cli(name, created.id))
    found = provider.get_workflow_instance(created.id)
    assert (found.status, found.reference) == (STATUS[name], str(MAX_ATTEMPTS - 1))


def test_command_stops_after_maximum_number_of_conflicts(
    cli: Command, provider: PostgresPersistenceProvider, concurrent_writes: Callable[[int, str], list[int]]
) -> None:
    created = WorkflowInstance("order", 1)
    provider.create_new_workflow(created)
    written = concurrent_writes(1000, REFERENCE)
    assert (
        error_line(cli("suspend", created.id), 1)
        == f"workflow '{created.id}' was changed concurrently: {MAX_ATTEMPTS} attempts to save it failed"
    )
    found = provider.get_workflow_instance(created.id)
    assert (found.status, found.reference) == (WorkflowStatus.RUNNABLE, str(MAX_ATTEMPTS))
    assert len(written) == MAX_ATTEMPTS


def test_workflow_finished_concurrently_is_rejected(
    cli: Command, provider: PostgresPersistenceProvider, concurrent_writes: Callable[[int, str], list[int]]
) -> None:
    created = WorkflowInstance("order", 1)
    provider.create_new_workflow(created)
    concurrent_writes(1, COMPLETE)
    assert "is finished: it has been Complete since" in error_line(cli("terminate", created.id), 1)
    assert provider.get_workflow_instance(created.id).status == WorkflowStatus.COMPLETE
