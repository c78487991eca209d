"""`status` shows what hosts are working at, and the definitions that no host seems to run."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.running import Command, succeeded
from tests.cli.scenarios import HOSTILE, SHOWN_HOSTILE
from tests.conftest import Sql
from wfe_postgres import ExecutionPointer, PointerStatus, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli import activity
from wfe_postgres.services import PostgresLockProvider


def workflow(
    provider: PostgresPersistenceProvider,
    due: float | None,
    *pointers: PointerStatus,
    definition: str = "order",
    version: int = 1,
    age: float = 7200,
    status: WorkflowStatus = WorkflowStatus.RUNNABLE,
) -> WorkflowInstance:
    """A workflow that is due in so many seconds (`None`: at 0, as a new one), and as old as `age`."""
    made = WorkflowInstance(definition, version, status=status)
    made.next_execution = 0 if due is None else int((time.time() + due) * 1000)
    made.create_time = datetime.now(UTC) - timedelta(seconds=age)
    made.execution_pointers = [ExecutionPointer(0, step_name="pick", status=status) for status in pointers]
    provider.create_new_workflow(made)
    return made


def hosts(cli: Command) -> Any:
    """What `status --json` says of hosts."""
    return json.loads(succeeded(cli("status", "--json")).output)["hosts"]


def test_claimed_workflows_are_those_with_a_running_step_and_a_lease(
    cli: Command, provider: PostgresPersistenceProvider
) -> None:
    running = PointerStatus.RUNNING
    first = workflow(provider, 20, PointerStatus.COMPLETE, running)
    workflow(provider, 30, running)
    workflow(provider, -30, running)  # its lease has ended
    workflow(provider, 10, PointerStatus.SLEEPING)
    workflow(provider, 10, running, status=WorkflowStatus.SUSPENDED)
    workflow(provider, activity.LONGEST_LEASE + 600, running)
    found = hosts(cli)
    assert found["claimed"] == 2
    assert datetime.fromisoformat(found["first_lease_end"]).timestamp() * 1000 == pytest.approx(first.next_execution)


def test_container_that_waits_for_its_branches_is_not_a_running_step(
    cli: Command, provider: PostgresPersistenceProvider
) -> None:
    made = workflow(provider, 20, PointerStatus.RUNNING, PointerStatus.SLEEPING)
    container, branch = made.execution_pointers
    container.children, branch.scope = [branch.id], [container.id]
    provider.persist_workflow(made)
    assert hosts(cli) == {"claimed": 0, "first_lease_end": None, "overdue": []}


def test_definitions_of_workflows_that_are_due_for_over_a_minute_are_listed_oldest_first(
    cli: Command, provider: PostgresPersistenceProvider
) -> None:
    workflow(provider, -70)
    workflow(provider, -300)
    workflow(provider, -30)  # not for long enough
    workflow(provider, None, definition="new", age=30)  # the same
    workflow(provider, None, definition="new", version=2, age=90)
    workflow(provider, 70, definition="later")
    workflow(provider, -7200, definition="ended", status=WorkflowStatus.COMPLETE)
    workflow(provider, -7200, definition="old", age=600)
    found = [(it["definition_id"], it["version"], it["workflows"]) for it in hosts(cli)["overdue"]]
    assert found == [("old", 1, 1), ("order", 1, 2), ("new", 2, 1)]
    since = [datetime.fromisoformat(it["oldest"]) for it in hosts(cli)["overdue"]]
    ages = [(datetime.now(UTC) - it).total_seconds() for it in since]
    assert ages == pytest.approx([600, 300, 90], abs=15)


def test_screen_shows_running_steps_and_overdue_definitions(
    cli: Command, provider: PostgresPersistenceProvider, columns: int
) -> None:
    workflow(provider, 3025, PointerStatus.RUNNING)
    workflow(provider, -7200, definition=HOSTILE, version=3)
    workflow(provider, -7200, definition="long" * 100)
    lines = succeeded(cli("status")).lines
    assert lines[2].split() == ["due", "for", "over", "a", "minute", "workflows", "oldest"]
    [hostile] = [line for line in lines if SHOWN_HOSTILE[:10] in line]
    assert hostile.split()[-3:] == ["1", "2", "h"]
    [long] = [line for line in lines if "longlong" in line]
    assert "…" in long
    [running] = [line for line in lines if "running steps" in line]
    assert re.search(r"running steps +1 +lease \d+ min", running)


def test_held_locks_are_counted_with_the_age_of_the_oldest(
    cli: Command, sql: Sql, database_url: str, columns: int
) -> None:
    """Neither released ones nor those whose lease has ended."""
    with PostgresLockProvider(database_url) as locks:
        assert all(locks.acquire_lock(name) for name in ("old", "new", "ended", "released"))
        locks.release_lock("released")
        sql("UPDATE wfc.lock_leases SET acquired_at = now() - interval '65 minutes' WHERE resource = 'old'")
        sql("UPDATE wfc.lock_leases SET expires_at = now() WHERE resource = 'ended'")
        found = json.loads(succeeded(cli("status", "--json")).output)["locks"]
        [held] = [line for line in succeeded(cli("status")).lines if "held locks" in line]
    assert found["held"] == 2
    age = datetime.now(UTC) - datetime.fromisoformat(found["oldest"])
    assert age.total_seconds() == pytest.approx(65 * 60, abs=60)
    assert re.search(r"held locks +2 +(65 min|1 h)", held)


def test_what_is_queued_is_counted_with_the_age_of_the_oldest(cli: Command, sql: Sql) -> None:
    """An empty queue has no line."""
    assert json.loads(succeeded(cli("status", "--json")).output)["queues"] == []
    assert "queued" not in succeeded(cli("status")).output
    for queue, hours in (("Workflow", 3), ("Workflow", 1), ("Event", 2)):
        sql(
            "INSERT INTO wfc.work_queue (queue, id, queued_at) VALUES (%s, 'a', now() - %s * interval '1 hour')",
            [queue, hours],
        )
    found = json.loads(succeeded(cli("status", "--json")).output)["queues"]
    assert [(it["queue"], it["ids"]) for it in found] == [("Event", 1), ("Workflow", 2)]
    lines = [line for line in succeeded(cli("status")).lines if "queued: " in line]
    assert re.search(r"queued: Event +1 +2 h", lines[0])
    assert re.search(r"queued: Workflow +2 +3 h", lines[1])


def test_store_that_is_older_than_the_services_has_a_status(cli: Command, sql: Sql) -> None:
    sql("DROP TABLE wfc.lock_leases, wfc.lifecycle_payloads, wfc.work_queue; DROP SEQUENCE wfc.lock_tokens")
    sql("UPDATE wfc.alembic_version SET version_num = '0008'")
    found = json.loads(succeeded(cli("status", "--json")).output)
    assert (found["locks"], found["queues"]) == (None, None)
    lines = succeeded(cli("status")).lines
    assert "revision 0008" in lines[0]
    assert not [line for line in lines if "held locks" in line]


@pytest.mark.parametrize("next_execution", [-(2**63), -1])
def test_due_time_outside_the_calendar_is_not_an_error(
    cli: Command, provider: PostgresPersistenceProvider, next_execution: int
) -> None:
    made = WorkflowInstance("order", 1, next_execution=next_execution, create_time=datetime(2020, 1, 1, tzinfo=UTC))
    provider.create_new_workflow(made)
    [found] = hosts(cli)["overdue"]
    assert found["oldest"] == "2020-01-01T00:00:00+00:00"
