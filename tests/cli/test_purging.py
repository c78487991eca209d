"""`purge` and `purge-events`: exactly what is old enough goes, and what is done when it is broken off stays done."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.cli.running import Command, done
from tests.cli.scenarios import BEGIN, finished, order
from wfe_postgres import Event, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus

Sql = Callable[..., list[tuple[Any, ...]]]
COMPLETE, TERMINATED = WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED
LIMIT = "2026-02-01"
"""The day after BEGIN."""

REST_OF_WORKFLOWS = """
    SELECT count(*) FROM wfc.workflows UNION ALL SELECT count(*) FROM wfc.execution_pointers
    UNION ALL SELECT count(*) FROM wfc.execution_errors
"""


def counts(command: Command, *arguments: str) -> dict[str, dict[str, int]]:
    """What the command says as JSON that it found and removed."""
    said = json.loads(done(command(*arguments, "--json")).output)
    return {name: said[name] for name in ("found", "removed")}


def names(sql: Sql) -> set[str]:
    """The workflows that are there."""
    return {name for (name,) in sql("SELECT id FROM wfc.workflows")}


def test_a_dry_run_counts_and_changes_nothing(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    finished(provider, 3, COMPLETE, BEGIN)
    finished(provider, 1, TERMINATED, BEGIN)
    before = sql("SELECT xmin, id FROM wfc.workflows ORDER BY id")
    assert done(here("purge", "--older-than", LIMIT, "--dry-run")).lines == [
        "3 Complete workflows from before 2026-02-01 00:00:00 UTC would be removed.",
        "1 Terminated workflow from before 2026-02-01 00:00:00 UTC would be removed.",
    ]
    assert done(here("purge-events", "--older-than", LIMIT, "--dry-run")).lines == [
        "0 processed events from before 2026-02-01 00:00:00 UTC would be removed."
    ]
    found = counts(here, "purge", "--older-than", LIMIT, "--dry-run", "--status", "complete")
    assert found == {"found": {"Complete": 3}, "removed": {"Complete": 0}}
    assert sql("SELECT xmin, id FROM wfc.workflows ORDER BY id") == before


@pytest.mark.parametrize("size", ["1", "3", "1000"])
def test_what_is_old_enough_goes_and_nothing_else(
    here: Command, provider: PostgresPersistenceProvider, sql: Sql, size: str
) -> None:
    limit = datetime.fromisoformat(LIMIT).replace(tzinfo=UTC)
    old = [*finished(provider, 7, COMPLETE, BEGIN), *finished(provider, 2, TERMINATED, BEGIN)]
    edge = [
        *finished(provider, 1, COMPLETE, limit - timedelta(microseconds=1)),
        *finished(provider, 2, COMPLETE, limit),
        *finished(provider, 1, TERMINATED, datetime.now(UTC)),
    ]
    kept = {order(provider).id, *(it.id for it in edge[1:])}
    assert len(names(sql)) == len(old) + 1 + len(kept)
    result = done(here("purge", "--older-than", LIMIT, "--batch-size", size))
    assert result.lines == ["8 Complete workflows removed.", "2 Terminated workflows removed."]
    assert names(sql) == kept
    assert sql("SELECT count(*) FROM wfc.execution_pointers") == [(10 + 3,)]
    assert sql("SELECT count(*) FROM wfc.execution_errors") == [(2 + 3,)]
    assert sql("SELECT count(*) FROM wfc.event_subscriptions") == [(3,)]


def test_one_status_alone(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    kept = finished(provider, 2, COMPLETE, BEGIN)
    finished(provider, 2, TERMINATED, BEGIN)
    found = counts(here, "purge", "--older-than", LIMIT, "--status", "terminated")
    assert found == {"found": {"Terminated": 2}, "removed": {"Terminated": 2}}
    assert names(sql) == {it.id for it in kept}


def test_only_what_is_finished_can_be_purged(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    provider.create_new_workflow(WorkflowInstance("order", 1, create_time=BEGIN))
    result = here("purge", "--older-than", LIMIT, "--status", "runnable")
    assert (result.code, result.output) == (2, "")
    assert "only Complete and Terminated workflows can be purged" in result.reported_errors
    assert here("purge").code == here("purge-events").code == 2  # there is no default for how old
    assert len(names(sql)) == 1


def test_more_of_one_moment_than_fit_a_batch(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    finished(provider, 9, COMPLETE, BEGIN)
    sql("UPDATE wfc.workflows SET complete_time = %s", [BEGIN])
    found = counts(here, "purge", "--older-than", LIMIT, "--batch-size", "2")
    assert found["removed"] == {"Complete": 9, "Terminated": 0}


def test_what_ended_before_the_calendar_begins(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    finished(provider, 5, COMPLETE, BEGIN)
    sql("UPDATE wfc.workflows SET complete_time = '-infinity' WHERE id = (SELECT min(id) FROM wfc.workflows)")
    sql("UPDATE wfc.workflows SET complete_time = '0044-03-15 BC' WHERE id = (SELECT max(id) FROM wfc.workflows)")
    found = counts(here, "purge", "--older-than", LIMIT, "--batch-size", "1")
    assert found["removed"] == {"Complete": 5, "Terminated": 0}


def test_events(here: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    late = BEGIN + timedelta(days=30)
    for n in range(8):
        at = late if n == 0 else BEGIN + timedelta(microseconds=n)
        provider.create_event(Event("paid", "4711", id=f"e{n}", event_time=at, is_processed=n != 1))
    assert done(here("purge-events", "--older-than", LIMIT, "--batch-size", "2")).lines == [
        "6 processed events removed."
    ]
    assert sql("SELECT id FROM wfc.events ORDER BY id") == [("e0",), ("e1",)]


def test_what_somebody_has_locked_is_left_and_said_so(
    here: Command, provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    made = finished(provider, 5, COMPLETE, BEGIN)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.workflows WHERE id = %s FOR UPDATE", [made[2].id])
        result = done(here("purge", "--older-than", LIMIT, "--batch-size", "2"))
    assert result.lines == ["4 of 5 Complete workflows removed.", "0 Terminated workflows removed."]
    assert names(sql) == {made[2].id}


def test_ctrl_c_ends_it_after_the_batch_that_is_under_way(
    here: Command, provider: PostgresPersistenceProvider, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finished(provider, 10, COMPLETE, BEGIN)
    finished(provider, 1, TERMINATED, BEGIN)
    calls: list[datetime] = []
    purge = PostgresPersistenceProvider.purge_workflows

    def purge_workflows(self: PostgresPersistenceProvider, status: WorkflowStatus, until: datetime, **rest: Any) -> int:
        calls.append(until)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return purge(self, status, until, **rest)

    monkeypatch.setattr(PostgresPersistenceProvider, "purge_workflows", purge_workflows)
    before = signal.getsignal(signal.SIGINT)
    result = here("purge", "--older-than", LIMIT, "--batch-size", "3")
    assert (result.code, result.reported_errors) == (130, "")
    assert result.lines == [
        "6 of 10 Complete workflows removed.",
        "0 of 1 Terminated workflow removed.",
        "Stopped by Ctrl-C. What is removed stays removed.",
    ]
    assert {it.id for it in made[6:]} < names(sql)
    assert sql(REST_OF_WORKFLOWS) == [(5,), (5,), (5,)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_breaks_off_what_hangs(
    here: Command, provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    made = finished(provider, 6, COMPLETE, BEGIN)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.execution_pointers WHERE workflow_id = %s FOR UPDATE", [made[3].id])
        impatient = threading.Thread(target=interrupt_twice, args=(database_url,))
        impatient.start()
        result = here("purge", "--older-than", LIMIT, "--batch-size", "2", "--json")
        impatient.join()
    assert (result.code, result.reported_errors) == (130, "")
    said = json.loads(result.output)
    assert (said["stopped"], said["removed"]["Complete"]) == (True, 2)
    assert names(sql) == {it.id for it in made[2:]}
    assert sql(REST_OF_WORKFLOWS) == [(4,), (4,), (4,)]


def interrupt_twice(url: str) -> None:
    """Press Ctrl-C twice, once somebody waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(waiting).fetchone() == (0,) and time.monotonic() < deadline:
            time.sleep(0.02)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # two signals at once would be one


def test_what_is_done_is_told_also_when_the_database_fails(
    here: Command, provider: PostgresPersistenceProvider, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(provider, 4, COMPLETE, BEGIN)
    calls: list[datetime] = []
    purge = PostgresPersistenceProvider.purge_workflows

    def purge_workflows(self: PostgresPersistenceProvider, status: WorkflowStatus, until: datetime, **rest: Any) -> int:
        calls.append(until)
        if len(calls) == 2:
            sql("ALTER TABLE wfc.execution_errors RENAME TO moved")
        return purge(self, status, until, **rest)

    monkeypatch.setattr(PostgresPersistenceProvider, "purge_workflows", purge_workflows)
    result = here("purge", "--older-than", LIMIT, "--batch-size", "1", "--status", "complete")
    assert result.code == 2
    assert result.lines == ["1 of 4 Complete workflows removed."]
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: ")
    assert len(names(sql)) == 3
