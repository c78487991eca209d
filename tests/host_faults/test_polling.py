"""What is due: alarms, commands of others, workflows of definitions that the host does not know."""

import logging
import time
from typing import Any

import pytest

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, note
from tests.host_faults.kit.local import host_of, pointer_of, run
from tests.provider.databases import statements_of
from wfe_postgres import (
    Event,
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowBuilder

UNKNOWN = runs(400, 5000)
COMMANDS = "SELECT command_name, data FROM wfc.scheduled_commands"
ROWS = "SELECT id, ctid::text, xmin::text FROM wfc.workflows WHERE definition_id <> 'sleepy' ORDER BY id"


def nap(context: StepContext) -> ExecutionResult:
    """Sleeps once."""
    note(context, "nap")
    return ExecutionResult.next() if context.persistence_data else ExecutionResult.sleep(0.5, "slept")


def after(context: StepContext) -> None:
    """A step that ends."""
    note(context, "after")


SLEEPY = WorkflowBuilder("sleepy").start_with(nap).delay(0.5).then(after).build()


def test_sleeping_workflow_is_not_saved_and_not_loaded_until_it_is_due(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    with host_of(provider, SLEEPY, poll_interval=0.02) as host, statements_of(provider.engine) as sent:
        id = host.start_workflow("sleepy")
        settled([id])
        loads = [
            it for it in sent if it.startswith("SELECT") and "execution_pointers" in it and "= any" not in it.lower()
        ]
    assert effects.order() == ["nap", "nap", "after"]
    assert effects.saves(id) <= 8
    assert len(loads) <= 5


def test_alarm_of_a_host_that_is_gone_rings_in_another(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    host = host_of(provider, SLEEPY)
    id = host.start_workflow("sleepy")
    host.run_until_idle()
    assert effects.order() == ["nap"]
    with host_of(provider, SLEEPY):
        settled([id])


def test_alarm_a_century_away_is_kept(provider: PostgresPersistenceProvider, effects: Effects) -> None:
    definition = WorkflowBuilder("century").delay(100 * 366 * 86400).then(after).build()
    workflow = run(provider, definition)
    assert workflow.status is WorkflowStatus.RUNNABLE
    assert (workflow.next_execution or 0) / 1000 - time.time() > 99 * 365 * 86400


def test_commands_for_what_no_longer_exists_are_done(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    provider.schedule_command(ScheduledCommand.process_workflow("gone", 0))
    provider.schedule_command(ScheduledCommand.process_event("gone", 0))
    host_of(provider, SLEEPY).run_until_idle()
    assert sql(COMMANDS) == []


def test_commands_for_workflows_that_have_ended_or_are_unknown_are_done(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    for id, change in (("ended", "status = 'Complete'"), ("unknown", "definition_id = 'unknown'")):
        provider.create_new_workflow(WorkflowInstance("sleepy", 1, id=id, execution_pointers=[SLEEPY.pointer(0)]))
        sql(f"UPDATE wfc.workflows SET {change} WHERE id = '{id}'")
        provider.schedule_command(ScheduledCommand.process_workflow(id, 0))
    host_of(provider, SLEEPY).run_until_idle()
    assert sql(COMMANDS) == []
    assert effects.order() == []


def test_command_for_a_workflow_that_cannot_be_read_is_logged_once_and_stops_no_other(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    for id in ("unreadable", "readable"):
        pointers = [SLEEPY.pointer(0)]
        provider.create_new_workflow(
            WorkflowInstance("sleepy", 1, id=id, execution_pointers=pointers, next_execution=None)
        )
        provider.schedule_command(ScheduledCommand.process_workflow(id, 0))
    sql("UPDATE wfc.execution_pointers SET children = '7' WHERE workflow_id = 'unreadable'")
    with host_of(provider, SLEEPY), caplog.at_level(logging.INFO, "wfe_postgres.host"):
        effects.wait_for("nap", 2)
        time.sleep(0.5)
    assert len([it for it in caplog.records if "unreadable" in it.getMessage()]) <= 1


def test_command_wakes_a_workflow_that_is_never_polled(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    definition = WorkflowBuilder("sleepy").start_with(after).build()
    pointers = [definition.pointer(0)]
    provider.create_new_workflow(
        WorkflowInstance("sleepy", 1, id="asleep", execution_pointers=pointers, next_execution=None)
    )
    provider.schedule_command(ScheduledCommand.process_workflow("asleep", int(time.time() * 1000)))
    with host_of(provider, definition):
        settled(["asleep"])
    assert effects.order() == ["after"]
    assert sql(COMMANDS) == []


def test_command_hands_over_an_event_that_is_marked_processed(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    definition = WorkflowBuilder("waiting").wait_for("bell", key="k").then(after).build()
    with host_of(provider, definition) as host:
        id = host.start_workflow("waiting")
        while not sql("SELECT 1 FROM wfc.event_subscriptions"):
            time.sleep(0.01)
        provider.create_event(Event("bell", "k", id="bell-1", is_processed=True))
        provider.schedule_command(ScheduledCommand.process_event("bell-1", 0))
        settled([id])
    assert sql(COMMANDS) == []


@pytest.mark.parametrize("limit", [1, 4])
def test_due_workflows_of_unknown_definitions_stay_untouched_and_take_no_turn(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled, limit: int
) -> None:
    """Unknown ids and unknown versions of a known id, all due before what the host knows."""
    for number in range(3):
        definition, version = (("unknown", 1), ("sleepy", 2), ("other", 1))[number]
        sql(
            "INSERT INTO wfc.workflows (id, name, definition_id, version, status, next_execution, create_time)"
            " SELECT %s || n, %s || n, %s, %s, 'Runnable', 0, now() FROM generate_series(1, %s) AS n",
            [definition, definition, definition, version, UNKNOWN // 3],
        )
    before = sql(ROWS)
    with host_of(provider, SLEEPY, threads=limit) as host:
        id = host.start_workflow("sleepy")
        sql("UPDATE wfc.workflows SET next_execution = 1000 WHERE id = %s", [id])
        settled([id])
    assert sql(ROWS) == before


def test_due_workflows_that_cannot_be_read_are_logged_once_and_take_no_turn(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    settled: Settled,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unreadable = [f"unreadable-{number}" for number in range(60)]
    for id in unreadable:
        provider.create_new_workflow(WorkflowInstance("sleepy", 1, id=id, execution_pointers=[SLEEPY.pointer(0)]))
    sql("UPDATE wfc.execution_pointers SET children = '7'")
    with caplog.at_level(logging.INFO, "wfe_postgres.host"), host_of(provider, SLEEPY, threads=2) as host:
        ids = [host.start_workflow("sleepy") for _ in range(3)]
        settled(ids)
        time.sleep(0.5)
    logged = [it.getMessage() for it in caplog.records if it.name.startswith("wfe_postgres.host")]
    assert [sum(f"{id!r}" in it or f" {id} " in it for it in logged) for id in unreadable] == [1] * 60


def test_idle_host_makes_at_most_three_queries_a_poll(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    polls: list[Any] = []
    with host_of(provider, SLEEPY, poll_interval=0.1) as host:
        settled([host.start_workflow("sleepy")])
        time.sleep(0.3)
        with statements_of(provider.engine) as polls:
            time.sleep(1.0)
    assert 3 <= len(polls) <= 36


def test_workflow_with_a_pointer_of_another_definition_takes_no_turn_again(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    """The pointer's number is beyond the definition's steps."""
    pointer = SLEEPY.pointer(0)
    pointer.step_id = 99
    provider.create_new_workflow(WorkflowInstance("sleepy", 1, id="odd", execution_pointers=[pointer]))
    with host_of(provider, SLEEPY):
        [workflow] = settled(["odd"], WorkflowStatus.SUSPENDED)
    assert pointer_of(workflow, "nap").status is not PointerStatus.COMPLETE
    assert len(sql("SELECT 1 FROM wfc.execution_errors")) == 1
