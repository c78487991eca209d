"""Lists and counts beyond the engine's interfaces."""

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Executable,
    MetaData,
    ScalarSelect,
    Table,
    Text,
    extract,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy import cast as sql_cast

from wfe_postgres.codec.fields import SUMMARY_FIELDS, columns_of
from wfe_postgres.orm import SCHEMA, CommandRow, ErrorRow, EventRow, SubscriptionRow, WorkflowRow
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    builtin,
    json_row,
    moment_parameter,
    table_of,
    text_parameter,
)
from wfe_postgres.statements.subscriptions import IS_OPEN

workflows: Table = table_of(WorkflowRow)
events: Table = table_of(EventRow)
subscriptions: Table = table_of(SubscriptionRow)
errors: Table = table_of(ErrorRow)
commands: Table = table_of(CommandRow)

PLACE_COLUMNS = (WorkflowRow.create_time, WorkflowRow.id)
"""Where a workflow stands in the order of `find_workflows`: what a cursor holds."""

_PLACE = tuple_(workflows.c.create_time, workflows.c.id)
_FILTERS: dict[str, ColumnElement[bool]] = {
    "status": workflows.c.status == text_parameter("status"),
    "definition_id": workflows.c.definition_id == text_parameter("definition_id"),
    "version": workflows.c.version == bigint_parameter("version"),
    "reference": workflows.c.reference == text_parameter("reference"),
    "root_workflow_id": workflows.c.root_workflow_id == text_parameter("root_workflow_id"),
    "created_from": workflows.c.create_time >= moment_parameter("created_from"),
    "created_to": workflows.c.create_time < moment_parameter("created_to"),
    "before_id": _PLACE < tuple_(moment_parameter("before_time"), text_parameter("before_id")),
}
_WITH_AN_INDEX = {"status", "definition_id", "reference", "root_workflow_id"}
# Always true, and the predicate of the index on the time alone: a filter that has an index of its own leaves it out,
# because the planner would walk that index, and for a rare value all of it.
_BY_TIME_ALONE = workflows.c.id >= literal_column("''", Text())


@cache
def find_workflows(filters: frozenset[str]) -> Executable:
    """Newest first, `:limit` of them, by the filters of these names."""
    conditions = [condition for name, condition in _FILTERS.items() if name in filters]
    if not filters & _WITH_AN_INDEX:
        conditions.append(_BY_TIME_ALONE)
    return (
        select(json_row(PLACE_COLUMNS), json_row(columns_of(SUMMARY_FIELDS)))
        .where(*conditions)
        .order_by(workflows.c.create_time.desc(), workflows.c.id.desc())
        .limit(bigint_parameter("limit"))
    )


# Constant within the statement, so that indexes can be used, and not the time at which a transaction began.
_now = builtin.statement_timestamp()
_now_milliseconds = sql_cast(extract("epoch", _now) * 1000, BigInteger())


def _count(table: Table, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(table).where(*conditions).scalar_subquery()


def _least(column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    shown = builtin.timezone(literal_column("'UTC'"), column) if isinstance(column.type, DateTime) else column
    return select(func.min(shown)).where(*conditions).scalar_subquery()


def _count_by(column: ColumnElement[str]) -> ScalarSelect[Any]:
    counts = select(column.label("value"), func.count().label("number")).group_by(column).subquery()
    return select(builtin.json_object_agg(counts.c.value, counts.c.number)).scalar_subquery()


_runnable_due = (
    literal_column("(status = 'Runnable') IS TRUE", Boolean()),
    workflows.c.next_execution <= _now_milliseconds,
)
_unprocessed = literal_column("(is_processed = false) IS TRUE", Boolean())
_due = commands.c.execute_time <= _now_milliseconds

_STATISTICS = {
    "workflows": _count_by(workflows.c.status),
    "runnable_due": _count(workflows, *_runnable_due),
    "oldest_due": _least(workflows.c.next_execution, *_runnable_due),
    "unprocessed_events": _count(events, _unprocessed),
    "oldest_unprocessed_event": _least(events.c.event_time, _unprocessed),
    "due_commands": _count(commands, _due),
    "oldest_due_command": _least(commands.c.execute_time, _due),
    "open_subscriptions": _count(subscriptions, IS_OPEN),
    "held_subscriptions": _count(subscriptions, IS_OPEN.is_not(true())),  # a token without an expiry makes it NULL
    "expired_subscriptions": _count(subscriptions, subscriptions.c.external_token.is_not(None), IS_OPEN),
    "execution_errors": _count(errors),
    "now": extract("epoch", builtin.clock_timestamp()),
}


@cache
def statistics(version_table: str) -> Executable:
    """All of them in one row, with the schema revision from this table."""
    version = Table(version_table, MetaData(schema=SCHEMA), Column("version_num", Text())).c.version_num
    values = _STATISTICS | {"schema_revision": select(func.max(version)).scalar_subquery()}
    members = (part for name, value in values.items() for part in (literal_column(f"'{name}'"), value))
    return select(sql_cast(builtin.json_build_object(*members), Text()))
