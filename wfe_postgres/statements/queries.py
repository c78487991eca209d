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
    Select,
    Table,
    Text,
    and_,
    case,
    extract,
    false,
    func,
    literal_column,
    or_,
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
    texts_parameter,
)
from wfe_postgres.statements.subscriptions import IS_OPEN

workflows: Table = table_of(WorkflowRow)
events: Table = table_of(EventRow)
subscriptions: Table = table_of(SubscriptionRow)
errors: Table = table_of(ErrorRow)
commands: Table = table_of(CommandRow)

PLACE_COLUMNS = (WorkflowRow.create_time, WorkflowRow.id)
"""Where a workflow stands in the order of `find_workflows`: what a cursor holds."""

MOST_LOOKED_AT = 10_000
"""How many workflows a page with `untouched_since` looks at: no index holds when a workflow was saved last, because
every save would have to change it."""

_BEFORE = tuple_(moment_parameter("before_time"), text_parameter("before_id"))


def _prefix(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """By the first 200 characters, which is what the index holds; the end comes right after all with the prefix."""
    start = builtin.left(column, literal_column("200"))
    from_here = start.op("OPERATOR(pg_catalog.~>=~)", is_comparison=True)(text_parameter(name))
    return and_(from_here, start.op("OPERATOR(pg_catalog.~<~)", is_comparison=True)(text_parameter(f"{name}_end")))


_FILTERS: dict[str, ColumnElement[bool]] = {
    "definition_id": workflows.c.definition_id == text_parameter("definition_id"),
    "version": workflows.c.version == bigint_parameter("version"),
    "reference": workflows.c.reference == text_parameter("reference"),
    "root_workflow_id": workflows.c.root_workflow_id == text_parameter("root_workflow_id"),
    "created_from": workflows.c.create_time >= moment_parameter("created_from"),
    "created_to": workflows.c.create_time < moment_parameter("created_to"),
    "completed_from": workflows.c.complete_time >= moment_parameter("completed_from"),
    "completed_to": workflows.c.complete_time < moment_parameter("completed_to"),
    "name_prefix": _prefix(workflows.c.name, "name_prefix"),
    "reference_prefix": and_(workflows.c.reference.is_not(None), _prefix(workflows.c.reference, "reference_prefix")),
}
# Always true, and the predicate of the index on the time alone: a filter that has an index of its own leaves it out,
# because the planner would walk that index, and for a rare value all of it.
_BY_TIME_ALONE = workflows.c.id >= literal_column("''", Text())
_BY_TIME = {"version", "created_from", "created_to", "before_time", "before_id"}


@cache
def find_workflows(filters: frozenset[str], *, newest_first: bool = True) -> Executable:
    """`:limit` workflows by the filters of these names, in the order of their creation: place, summary, False.

    Each of the statuses has an index scan of its own, and what these find is merged. With `untouched_since` the row at
    which the look ended has True, and a summary only if it matches.
    """
    untouched = "untouched_since" in filters
    most = literal_column(str(MOST_LOOKED_AT)) if untouched else bigint_parameter("limit")
    page = _page(filters, newest_first)
    if "status" in filters:
        wanted = func.unnest(texts_parameter("status")).table_valued("status", name="wanted").render_derived()
        own = _in_order(page.where(workflows.c.status == wanted.c.status), workflows.c, newest_first, most)
        of_status = own.lateral("of_status")
        merged = select(*of_status.c).select_from(wanted.join(of_status, true()))
        found = _in_order(merged, of_status.c, newest_first, most).subquery("found")
    else:
        found = _in_order(page, workflows.c, newest_first, most).subquery("found")
    if not untouched:
        return _in_order(select(found.c.place, found.c.summary, false()), found.c, newest_first)
    looked = select(found, (func.row_number().over() == MOST_LOOKED_AT).label("is_last")).subquery("looked")
    matches = looked.c.saved < moment_parameter("untouched_since")
    shown = select(looked.c.place, case((matches, looked.c.summary)), looked.c.is_last)
    return _in_order(shown.where(or_(matches, looked.c.is_last)), looked.c, newest_first, bigint_parameter("limit"))


def _page(filters: frozenset[str], newest_first: bool) -> Select[Any]:
    conditions = [condition for name, condition in _FILTERS.items() if name in filters]
    if "before_id" in filters:
        place = tuple_(workflows.c.create_time, workflows.c.id)
        conditions.append(place < _BEFORE if newest_first else place > _BEFORE)
    if filters <= _BY_TIME:
        conditions.append(_BY_TIME_ALONE)
    saved = func.coalesce(workflows.c.last_heartbeat_at, workflows.c.create_time).label("saved")
    columns = (json_row(PLACE_COLUMNS).label("place"), json_row(columns_of(SUMMARY_FIELDS)).label("summary"))
    return select(*columns, saved, workflows.c.create_time, workflows.c.id).where(*conditions)


def _in_order(page: Select[Any], columns: Any, newest_first: bool, most: Any = None) -> Select[Any]:
    order = (columns.create_time, columns.id)
    return page.order_by(*(it.desc() for it in order) if newest_first else order).limit(most)


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
