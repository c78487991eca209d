"""`suspend`, `resume` and `terminate` on one workflow."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import order
from wfe_postgres import (
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
