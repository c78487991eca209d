"""`purge` keeps families that have not ended; `purge-errors` and `purge-orphans` remove what is old."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.cli.running import Command, succeeded
from tests.cli.scenarios import START, finished, order
from wfe_postgres import (
    EventSubscription,
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)

Sql = Callable[..., list[tuple[Any, ...]]]
LIMIT = "2026-02-01"
"""The day after START."""


def test_purge_counts_and_removes_only_families_that_have_ended(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    ended = finished(provider, 3, WorkflowStatus.COMPLETE, START)
    root = WorkflowInstance("order", 1)
    provider.create_new_workflow(root)
    sql("UPDATE wfc.workflows SET root_workflow_id = %s WHERE id = %s", [root.id, ended[0].id])
    for arguments in ("--dry-run",), ():
        printed = json.loads(succeeded(cli("purge", "--older-than", LIMIT, "--json", *arguments)).output)
        assert printed["found"] == {"Complete": 2, "Terminated": 0}
    assert printed["removed"] == printed["found"]
    assert {id for (id,) in sql("SELECT id FROM wfc.workflows")} == {root.id, ended[0].id}


@pytest.mark.parametrize("size", ["1", "1000"])
def test_purge_errors_removes_old_errors(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql, size: str
) -> None:
    created = order(provider)
    provider.persist_errors(
        [ExecutionError(created.id, "one", f"{n}", error_time=START + timedelta(seconds=n)) for n in range(4)]
    )
    arguments = ("purge-errors", "--older-than", LIMIT, "--batch-size", size)
    assert succeeded(cli(*arguments, "--dry-run")).lines == [
        "5 step errors from before 2026-02-01 00:00:00 UTC would be removed."
    ]
    assert succeeded(cli(*arguments)).lines == ["5 step errors removed."]
    assert len(provider.get_execution_errors()) == 1


def test_purge_orphans_removes_what_belongs_to_nothing(
    cli: Command, provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    kept = order(provider)
    provider.create_event_subscription(EventSubscription("gone", 1, "p", "paid", "k", subscribe_as_of=START))
    provider.persist_errors([ExecutionError("gone", "p", f"{n}", error_time=START) for n in range(2)])
    provider.schedule_command(ScheduledCommand.process_workflow("gone", 1))
    provider.schedule_command(ScheduledCommand.process_event("gone", 1))
    provider.schedule_command(ScheduledCommand.process_workflow(kept.id, 1))
    assert succeeded(cli("purge-orphans", "--older-than", LIMIT, "--dry-run")).lines == [
        "1 orphaned subscription from before 2026-02-01 00:00:00 UTC would be removed.",
        "2 orphaned errors from before 2026-02-01 00:00:00 UTC would be removed.",
        "2 orphaned commands from before 2026-02-01 00:00:00 UTC would be removed.",
    ]
    printed = json.loads(succeeded(cli("purge-orphans", "--older-than", LIMIT, "--json")).output)
    assert printed["found"] == {"subscriptions": 1, "errors": 2, "commands": 2}
    assert printed["removed"] == {"orphans": 5}
    assert succeeded(cli("purge-orphans", "--older-than", LIMIT)).lines == ["0 orphaned rows removed."]
    assert sql("SELECT data FROM wfc.scheduled_commands") == [(kept.id,)]
    assert len(provider.get_workflow_subscriptions(kept.id)) == 3
