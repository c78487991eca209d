"""`suspend`, `resume` and `terminate`: exactly the fields that they are for, under everybody else's writes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, done, refused
from tests.cli.scenarios import order
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli.control import TRIES

Sql = Callable[..., list[tuple[Any, ...]]]
STATUS = {
    "suspend": WorkflowStatus.SUSPENDED,
    "resume": WorkflowStatus.RUNNABLE,
    "terminate": WorkflowStatus.TERMINATED,
}


def test_suspend_changes_the_status_and_nothing_else(here: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    result = done(here("suspend", expected.name))
    assert result.output == "The workflow order-4711 is Suspended; it was Runnable.\n"
    expected.status = WorkflowStatus.SUSPENDED
    assert provider.get_workflow_instance(expected.id) == expected


def test_resume_makes_it_due(here: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    done(here("suspend", expected.id))
    before = datetime.now(UTC)
    assert done(here("resume", expected.id)).output == "The workflow order-4711 is Runnable; it was Suspended.\n"
    found = provider.get_workflow_instance(expected.id)
    assert found.next_execution is not None
    due = datetime.fromtimestamp(found.next_execution / 1000, UTC)
    assert before - timedelta(milliseconds=1) <= due <= datetime.now(UTC)
    assert provider.get_runnable_instances(datetime.now(UTC)) == [expected.id]
    found.next_execution = expected.next_execution
    assert found == expected


def test_terminate_says_when(here: Command, provider: PostgresPersistenceProvider) -> None:
    expected = order(provider)
    before = datetime.now(UTC)
    assert done(here("terminate", expected.id)).output == "The workflow order-4711 is Terminated; it was Runnable.\n"
    found = provider.get_workflow_instance(expected.id)
    assert found.complete_time is not None
    assert before <= found.complete_time <= datetime.now(UTC)
    expected.status, expected.complete_time = WorkflowStatus.TERMINATED, found.complete_time
    assert found == expected


@pytest.mark.parametrize("name", ["suspend", "resume"])
def test_what_is_so_already_is_not_written(here: Command, provider: PostgresPersistenceProvider, name: str) -> None:
    made = WorkflowInstance("order", 1, status=STATUS[name], next_execution=None)
    provider.create_new_workflow(made)
    before = provider.get_workflow_instance(made.id)
    assert done(here(name, made.id)).output == f"The workflow {made.id} is {STATUS[name]} already.\n"
    after = provider.get_workflow_instance(made.id)
    assert (after, after.revision) == (before, before.revision)


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize("status", [WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED])
def test_what_is_finished_stays_so(
    here: Command, provider: PostgresPersistenceProvider, name: str, status: WorkflowStatus
) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    made = WorkflowInstance("order", 1, name="done", status=status, complete_time=at)
    provider.create_new_workflow(made)
    before = provider.get_workflow_instance(made.id)
    line = refused(here(name, made.id), 1)
    assert line == f"workflow 'done' is finished: it has been {status} since 2026-01-31 12:00:00 UTC"
    after = provider.get_workflow_instance(made.id)
    assert (after, after.revision) == (before, before.revision)


@pytest.mark.parametrize("name", STATUS)
def test_a_program_learns_what_it_was(here: Command, provider: PostgresPersistenceProvider, name: str) -> None:
    before = WorkflowStatus.SUSPENDED if name == "resume" else WorkflowStatus.RUNNABLE
    made = WorkflowInstance("order", 1, status=before)
    provider.create_new_workflow(made)
    found = json.loads(done(here(name, made.id, "--json")).output)
    assert found == {"id": made.id, "name": made.id, "before": before, "status": STATUS[name]}


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch, sql: Sql) -> Callable[[int, str], list[int]]:
    """Lets somebody else write, so many times, after the command has loaded a workflow and before it saves it."""

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
def test_others_writes_are_kept(
    here: Command, provider: PostgresPersistenceProvider, rivals: Callable[[int, str], list[int]], name: str
) -> None:
    before = WorkflowStatus.SUSPENDED if name == "resume" else WorkflowStatus.RUNNABLE
    made = WorkflowInstance("order", 1, status=before)
    provider.create_new_workflow(made)
    rivals(TRIES - 1, REFERENCE)
    done(here(name, made.id))
    found = provider.get_workflow_instance(made.id)
    assert (found.status, found.reference) == (STATUS[name], str(TRIES - 1))


def test_it_gives_up_in_the_end(
    here: Command, provider: PostgresPersistenceProvider, rivals: Callable[[int, str], list[int]]
) -> None:
    made = WorkflowInstance("order", 1)
    provider.create_new_workflow(made)
    written = rivals(1000, REFERENCE)
    assert (
        refused(here("suspend", made.id), 1) == f"others kept changing workflow '{made.id}': {TRIES} tries were refused"
    )
    found = provider.get_workflow_instance(made.id)
    assert (found.status, found.reference) == (WorkflowStatus.RUNNABLE, str(TRIES))
    assert len(written) == TRIES


def test_what_finished_in_between_stays_so(
    here: Command, provider: PostgresPersistenceProvider, rivals: Callable[[int, str], list[int]]
) -> None:
    made = WorkflowInstance("order", 1)
    provider.create_new_workflow(made)
    rivals(1, COMPLETE)
    assert "is finished: it has been Complete since" in refused(here("terminate", made.id), 1)
    assert provider.get_workflow_instance(made.id).status == WorkflowStatus.COMPLETE
