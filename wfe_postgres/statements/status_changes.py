"""Renewing, suspending, resuming, terminating: under the workflow's revision, and without reading its pointers."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.contract.models import CommandName, PointerStatus, WorkflowStatus
from wfe_postgres.contract.status_changes import COMPLETED_EVENT
from wfe_postgres.statements.expressions import bigint_parameter, builtin, text_parameter
from wfe_postgres.statements.tables import commands, events, pointers, subscriptions, workflows

_milliseconds = builtin.floor(builtin.date_part("epoch", builtin.clock_timestamp()) * 1000)


def _change(**values: Any) -> sa.Update:
    return (
        sa.update(workflows)
        .where(workflows.c.id == text_parameter("workflow_id"))
        .where(workflows.c.revision == bigint_parameter("expected_revision"))
        .values(revision=bigint_parameter("new_revision"), **values)
    )


def _set_status(status: WorkflowStatus, **values: Any) -> sa.Update:
    return _change(status=status.value, last_heartbeat_at=builtin.now(), **values)


def _resume(*, skip_failed: bool) -> sa.Executable:
    resumed = _set_status(WorkflowStatus.RUNNABLE, next_execution=_milliseconds)
    changed = resumed.returning(workflows.c.id, FORCE_SYNCHRONOUS_COMMIT).cte("changed")
    failed = pointers.c.status == PointerStatus.FAILED.value
    after = PointerStatus.SKIPPED if skip_failed else PointerStatus.PENDING
    values: dict[str, sa.ColumnElement[Any]] = {
        "status": sa.case((failed, after.value), else_=PointerStatus.PENDING.value),
        "active": sa.case((failed, sa.true()), else_=pointers.c.active),
    }
    if not skip_failed:
        values["retry_count"] = sa.case((failed, 0), else_=pointers.c.retry_count)
        values["end_time"] = sa.case((failed, sa.null()), else_=pointers.c.end_time)
    made_ready = (
        sa.update(pointers)
        .where(pointers.c.workflow_id == sa.select(changed.c.id).scalar_subquery())
        .where(sa.or_(failed, pointers.c.status == PointerStatus.RUNNING.value))
        .values(values)
    )
    return sa.select(changed.c.id).add_cte(made_ready.cte("made_ready"))


def _terminate() -> sa.Executable:
    terminated = _set_status(WorkflowStatus.TERMINATED, complete_time=builtin.clock_timestamp())
    columns = (workflows.c.id, workflows.c.root_workflow_id, workflows.c.data)
    changed = terminated.returning(*columns, FORCE_SYNCHRONOUS_COMMIT).cte("changed")
    id = sa.select(changed.c.id).scalar_subquery()
    its_command = sa.and_(commands.c.command_name == CommandName.PROCESS_WORKFLOW.value, commands.c.data == id)
    event = {
        "id": text_parameter("event_id"),
        "event_name": sa.literal(COMPLETED_EVENT),
        "event_key": changed.c.id,
        "event_data": builtin.jsonb_build_object("status", WorkflowStatus.TERMINATED.value, "data", changed.c.data),
        "event_time": builtin.clock_timestamp(),
        "is_processed": sa.false(),
    }
    for_parent = sa.select(*event.values()).where(changed.c.root_workflow_id.is_not(None))
    return sa.select(changed.c.id).add_cte(
        sa.delete(subscriptions).where(subscriptions.c.workflow_id == id).cte("ended_subscriptions"),
        sa.delete(commands).where(its_command).cte("ended_command"),
        insert(events).from_select([*event], for_parent).on_conflict_do_nothing().cte("completion_event"),
    )


_returned = (workflows.c.id, FORCE_SYNCHRONOUS_COMMIT)
RENEW = _change(next_execution=bigint_parameter("next_execution")).returning(*_returned)
SUSPEND = _set_status(WorkflowStatus.SUSPENDED).returning(*_returned)
RESUME = _resume(skip_failed=False)
RESUME_AFTER_FAILED = _resume(skip_failed=True)
TERMINATE = _terminate()
