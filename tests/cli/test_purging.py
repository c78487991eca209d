"""`purge` and `purge-events` remove only old objects; an interrupted purge keeps completed batches."""

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

from tests.cli.running import Command, succeeded
from tests.cli.scenarios import START, finished, order
from wfe_postgres import Event, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus

Sql = Callable[..., list[tuple[Any, ...]]]
COMPLETE, TERMINATED = WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED
LIMIT = "2026-02-01"
"""The day after START."""

REST_OF_WORKFLOWS = """
    SELECT count(*) FROM wfc.workflows UNION ALL SELECT count(*) FROM wfc.execution_pointers
    UNION ALL SELECT count(*) FROM wfc.execution_errors
"""


def counts(command: Command, *arguments: str) -> dict[str, dict[str, int]]:
    """The numbers of found and removed objects in the JSON output of the command."""
    printed = json.loads(succeeded(command(*arguments, "--json")).output)
    return {name: printed[name] for name in ("found", "removed")}


def names(sql: Sql) -> set[str]:
    """The ids of the stored workflows."""
    return {name for (name,) in sql("SELECT id FROM wfc.workflows")}


def test_dry_run_counts_without_removing(cli: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    finished(provider, 3, COMPLETE, START)
    finished(provider, 1, TERMINATED, START)
    before = sql("SELECT xmin, id FROM wfc.workflows ORDER BY id")
    assert succeeded(cli("purge", "--older-than", LIMIT, "--dry-run")).lines == [
        "3 Complete workflows from before 2026-02-01 00:00:00 UTC would be removed.",
        "1 Terminated workflow from before 2026-02-01 00:00:00 UTC would be removed.",
    ]
    assert succeeded(cli("purge-events", "--older-than", LIMIT, "--dry-run")).lines == [
        "0 processed events from before 2026-02-01 00:00:00 UTC would be removed."
    ]
    found = counts(cli, "purge", "--older-than", LIMIT, "--dry-run", "--status", "complete")
    assert found == {"found": {"Complete": 3}, "removed": {"Complete": 0}}
    assert sql("SELECT xmin, id FROM wfc.workflows ORDER BY id") == before


@pytest.mark.parametrize("size", ["1", "3", "1000"])
def test_purge_removes_only_old_finished_workflows(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql, size: str
) -> None:
    limit = datetime.fromisoformat(LIMIT).replace(tzinfo=UTC)
    old = [*finished(provider, 7, COMPLETE, START), *finished(provider, 2, TERMINATED, START)]
    edge = [
        *finished(provider, 1, COMPLETE, limit - timedelta(microseconds=1)),
        *finished(provider, 2, COMPLETE, limit),
        *finished(provider, 1, TERMINATED, datetime.now(UTC)),
    ]
    kept = {order(provider).id, *(it.id for it in edge[1:])}
    assert len(names(sql)) == len(old) + 1 + len(kept)
    result = succeeded(cli("purge", "--older-than", LIMIT, "--batch-size", size))
    assert result.lines == ["8 Complete workflows removed.", "2 Terminated workflows removed."]
    assert names(sql) == kept
    assert sql("SELECT count(*) FROM wfc.execution_pointers") == [(10 + 3,)]
    assert sql("SELECT count(*) FROM wfc.execution_errors") == [(2 + 3,)]
    assert sql("SELECT count(*) FROM wfc.event_subscriptions") == [(3,)]


def test_purge_of_one_status_keeps_the_other(cli: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    kept = finished(provider, 2, COMPLETE, START)
    finished(provider, 2, TERMINATED, START)
    found = counts(cli, "purge", "--older-than", LIMIT, "--status", "terminated")
    assert found == {"found": {"Terminated": 2}, "removed": {"Terminated": 2}}
    assert names(sql) == {it.id for it in kept}


def test_purge_of_unfinished_status_is_rejected(cli: Command, provider: PostgresPersistenceProvider, sql: Sql) -> None:
    provider.create_new_workflow(WorkflowInstance("order", 1, create_time=START))
    result = cli("purge", "--older-than", LIMIT, "--status", "runnable")
    assert (result.code, result.output) == (2, "")
    assert "only Complete and Terminated workflows can be purged" in result.reported_errors
    assert cli("purge").code == cli("purge-events").code == 2  # --older-than is required
    assert len(names(sql)) == 1


def test_purge_with_equal_complete_times_removes_all(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    finished(provider, 9, COMPLETE, START)
    sql("UPDATE wfc.workflows SET complete_time = %s", [START])
    found = counts(cli, "purge", "--older-than", LIMIT, "--batch-size", "2")
    assert found["removed"] == {"Complete": 9, "Terminated": 0}


def test_purge_removes_complete_times_before_year_one(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    finished(provider, 5, COMPLETE, START)
    sql("UPDATE wfc.workflows SET complete_time = '-infinity' WHERE id = (SELECT min(id) FROM wfc.workflows)")
    sql("UPDATE wfc.workflows SET complete_time = '0044-03-15 BC' WHERE id = (SELECT max(id) FROM wfc.workflows)")
    found = counts(cli, "purge", "--older-than", LIMIT, "--batch-size", "1")
    assert found["removed"] == {"Complete": 5, "Terminated": 0}


def test_purge_events_removes_old_processed_events(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    late = START + timedelta(days=30)
    for n in range(8):
        at = late if n == 0 else START + timedelta(microseconds=n)
        provider.create_event(Event("paid", "4711", id=f"e{n}", event_time=at, is_processed=n != 1))
    assert succeeded(cli("purge-events", "--older-than", LIMIT, "--batch-size", "2")).lines == [
        "6 processed events removed."
    ]
    assert sql("SELECT id FROM wfc.events ORDER BY id") == [("e0",), ("e1",)]


def test_purge_skips_and_reports_locked_workflows(
    cli: Command, provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    created = finished(provider, 5, COMPLETE, START)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.workflows WHERE id = %s FOR UPDATE", [created[2].id])
        result = succeeded(cli("purge", "--older-than", LIMIT, "--batch-size", "2"))
    assert result.lines == ["4 of 5 Complete workflows removed.", "0 Terminated workflows removed."]
    assert names(sql) == {created[2].id}


def test_ctrl_c_stops_purge_after_current_batch(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = finished(provider, 10, COMPLETE, START)
    finished(provider, 1, TERMINATED, START)
    calls: list[datetime] = []
    purge = PostgresPersistenceProvider.purge_workflows

    def purge_workflows(self: PostgresPersistenceProvider, status: WorkflowStatus, until: datetime, **rest: Any) -> int:
        calls.append(until)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return purge(self, status, until, **rest)

    monkeypatch.setattr(PostgresPersistenceProvider, "purge_workflows", purge_workflows)
    before = signal.getsignal(signal.SIGINT)
    result = cli("purge", "--older-than", LIMIT, "--batch-size", "3")
    assert (result.code, result.reported_errors) == (130, "")
    assert result.lines == [
        "6 of 10 Complete workflows removed.",
        "0 of 1 Terminated workflow removed.",
        "Interrupted by Ctrl-C. Committed batches stay removed.",
    ]
    assert {it.id for it in created[6:]} < names(sql)
    assert sql(REST_OF_WORKFLOWS) == [(5,), (5,), (5,)]
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_cancels_blocked_batch(
    cli: Command, provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    created = finished(provider, 6, COMPLETE, START)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM wfc.execution_pointers WHERE workflow_id = %s FOR UPDATE", [created[3].id])
        interrupter = threading.Thread(target=interrupt_twice, args=(database_url,))
        interrupter.start()
        result = cli("purge", "--older-than", LIMIT, "--batch-size", "2", "--json")
        interrupter.join()
    assert (result.code, result.reported_errors) == (130, "")
    printed = json.loads(result.output)
    assert (printed["stopped"], printed["removed"]["Complete"]) == (True, 2)
    assert names(sql) == {it.id for it in created[2:]}
    assert sql(REST_OF_WORKFLOWS) == [(4,), (4,), (4,)]


def interrupt_twice(url: str) -> None:
    """Send SIGINT twice, once a session waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(waiting).fetchone() == (0,) and time.monotonic() < deadline:
            time.sleep(0.02)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # pending signals of the same kind are merged


def test_purge_that_fails_reports_removed_workflows(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(provider, 4, COMPLETE, START)
    calls: list[datetime] = []
    purge = PostgresPersistenceProvider.purge_workflows

    def purge_workflows(self: PostgresPersistenceProvider, status: WorkflowStatus, until: datetime, **rest: Any) -> int:
        calls.append(until)
        if len(calls) == 2:
            sql("ALTER TABLE wfc.execution_errors RENAME TO moved")
        return purge(self, status, until, **rest)

    monkeypatch.setattr(PostgresPersistenceProvider, "purge_workflows", purge_workflows)
    result = cli("purge", "--older-than", LIMIT, "--batch-size", "1", "--status", "complete")
    assert result.code == 2
    assert result.lines == ["1 of 4 Complete workflows removed."]
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: ")
    assert len(names(sql)) == 3
