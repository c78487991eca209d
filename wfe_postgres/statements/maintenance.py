"""The deletion of workflows and events that have ended."""

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Table,
    and_,
    any_,
    delete,
    func,
    or_,
    select,
    text,
    true,
)

from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.contract.models import CommandName
from wfe_postgres.orm import CommandRow, ErrorRow, EventRow, PointerRow, SubscriptionRow, WorkflowRow
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    moment_parameter,
    table_of,
    text_parameter,
    texts_parameter,
)

workflows: Table = table_of(WorkflowRow)
pointers: Table = table_of(PointerRow)
events: Table = table_of(EventRow)
subscriptions: Table = table_of(SubscriptionRow)
errors: Table = table_of(ErrorRow)
commands: Table = table_of(CommandRow)


def _delete_workflows() -> Executable:
    """The workflows in `:workflow_ids` with all that is theirs; their rows are locked before, so that a
    writer who was about to add a pointer has done so, and is seen, or waits."""
    of_them = any_(texts_parameter("workflow_ids"))
    gone = [
        delete(table).where(table.c.workflow_id == of_them).cte(f"gone_{table.name}")
        for table in (pointers, subscriptions, errors)
    ]
    return (
        delete(workflows)
        .where(workflows.c.id == of_them)
        .returning(workflows.c.id, FORCE_SYNCHRONOUS_COMMIT)
        .add_cte(*gone)
    )


DELETE_WORKFLOWS = _delete_workflows()

# Of each foreign key of an application's own that neither cascades nor sets NULL: its table, and as a condition in
# SQL, that no row there refers to a workflow.
_RESTRICTING_KEYS = text("""(
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(own_key.referencing, own_key.unreferenced)) FROM (
        SELECT c.conrelid::regclass::text AS referencing,
               pg_catalog.format('NOT EXISTS (SELECT FROM %s AS r WHERE %s)', c.conrelid::regclass,
                   pg_catalog.string_agg(
                       pg_catalog.format('r.%I = workflows.%I', own.attname, ours.attname), ' AND ')) AS unreferenced
          FROM pg_catalog.pg_constraint AS c
         CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey)) AS k (own, ours)
          JOIN pg_catalog.pg_attribute AS own ON own.attrelid = c.conrelid AND own.attnum = k.own
          JOIN pg_catalog.pg_attribute AS ours ON ours.attrelid = c.confrelid AND ours.attnum = k.ours
         WHERE c.contype = 'f' AND c.confdeltype IN ('a', 'r')
           AND c.confrelid = CAST(:workflows AS regclass) AND c.conrelid <> CAST(:pointers AS regclass)
         GROUP BY c.oid, c.conrelid
    ) AS own_key
)::text""")


_roots = workflows.alias("roots")
# A value for each row, not NOT EXISTS: joined with it, the table would be read from one end to the other.
_root_has_ended = (
    select(or_(_roots.c.status == "Complete", _roots.c.status == "Terminated"))
    .where(_roots.c.id == workflows.c.root_workflow_id)
    .scalar_subquery()
)


@cache
def finished(unreferenced: tuple[str, ...] = ()) -> Executable:
    """Workflows to purge, `:batch_size` of them, locked, each with the foreign keys that may restrict its deletion.

    `unreferenced`: conditions of such keys; only workflows for which they hold.
    """
    return (
        select(workflows.c.id, _RESTRICTING_KEYS)
        .where(workflows.c.status == text_parameter("status"))
        .where(workflows.c.complete_time < moment_parameter("older_than"))
        .where(func.coalesce(_root_has_ended, true()))
        .where(*(text(condition.replace(":", r"\:")) for condition in unreferenced))
        .order_by(workflows.c.complete_time)
        .limit(bigint_parameter("batch_size"))
        .with_for_update(skip_locked=True)
    )


REFERENCING_TABLES = text("""
SELECT DISTINCT c.conrelid::regclass::text FROM pg_catalog.pg_constraint AS c
 WHERE c.contype = 'f' AND c.confrelid = ANY (CAST(:tables AS regclass[]))
   AND c.conrelid <> ALL (CAST(:tables AS regclass[]))
 ORDER BY 1
""").bindparams(texts_parameter("tables"))
"""Tables of an application's own that have a foreign key to one of `:tables`."""


@cache
def truncate(tables: tuple[str, ...]) -> Executable:
    """Empties the tables and restarts their sequences."""
    return text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")


_old_events = (
    select(events.c.id)
    .where(events.c.is_processed, events.c.event_time < moment_parameter("older_than"))
    .order_by(events.c.event_time)
    .limit(bigint_parameter("batch_size"))
    .with_for_update(skip_locked=True)
    .cte("old_events")
)
# As an array: joined with it, the table would be read from one end to the other.
_old_ids = func.array(select(_old_events.c.id).scalar_subquery())
PURGE_EVENTS = delete(events).where(events.c.id == any_(_old_ids)).returning(events.c.id, FORCE_SYNCHRONOUS_COMMIT)

_old_errors = (
    select(errors.c.id)
    .where(errors.c.error_time < moment_parameter("older_than"))
    .order_by(errors.c.error_time)
    .limit(bigint_parameter("batch_size"))
    .with_for_update(skip_locked=True)
    .cte("old_errors")
)
_old_error_ids = func.array(select(_old_errors.c.id).scalar_subquery())
PURGE_ERRORS = (
    delete(errors).where(errors.c.id == any_(_old_error_ids)).returning(errors.c.id, FORCE_SYNCHRONOUS_COMMIT)
)


def _orphans(table: Table, *conditions: ColumnElement[bool]) -> CTE:
    return delete(table).where(*conditions).returning(table.c.id, FORCE_SYNCHRONOUS_COMMIT).cte(f"orphan_{table.name}")


def _delete_orphans() -> Executable:
    def none(column: ColumnElement[Any], of: ColumnElement[Any]) -> ColumnElement[bool]:
        return ~select(of).where(of == column).exists()

    name, data = commands.c.command_name, commands.c.data
    without_target = or_(
        and_(name == CommandName.PROCESS_WORKFLOW.value, none(data, workflows.c.id)),
        and_(name == CommandName.PROCESS_EVENT.value, none(data, events.c.id)),
    )
    older_than = moment_parameter("older_than")
    of_none = none(subscriptions.c.workflow_id, workflows.c.id)
    gone = [
        _orphans(subscriptions, subscriptions.c.subscribe_as_of < older_than, of_none),
        _orphans(errors, errors.c.error_time < older_than, none(errors.c.workflow_id, workflows.c.id)),
        _orphans(commands, commands.c.execute_time < bigint_parameter("older_than_ms"), without_target),
    ]
    counts = [select(func.count()).select_from(it).scalar_subquery() for it in gone]
    return select(counts[0] + counts[1] + counts[2], FORCE_SYNCHRONOUS_COMMIT)


DELETE_ORPHANS = _delete_orphans()
