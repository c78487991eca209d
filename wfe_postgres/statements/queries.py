"""Lists and counts beyond the engine's interfaces."""

from functools import cache, partial
from typing import Any

import sqlalchemy as sa

from wfe_postgres.codec.fields import SUMMARY_FIELDS
from wfe_postgres.orm import SCHEMA
from wfe_postgres.statements.expressions import (
    as_text,
    bigint_parameter,
    builtin,
    first_rows,
    in_utc,
    json_row,
    text_parameter,
    texts_parameter,
    timestamp_parameter,
)
from wfe_postgres.statements.subscriptions import IS_OPEN
from wfe_postgres.statements.tables import commands, errors, events, subscriptions, workflows

FEW = 10_000
"""Up to so many matches, a filter's own index is read, and what it finds is sorted. Beyond, and for filters without an
index, a page is looked for in the order of creation, and ends after so many workflows."""
WINDOW = 1_000
"""How many workflows one statement looks at. Of more the planner would rather sort all there are."""

TIME = "created"
"""The index on the time of creation alone."""

_BEFORE = sa.tuple_(timestamp_parameter("before_time"), text_parameter("before_id"))


def _hidden(parameter: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The planner does not see the value. For a frequent one it would read the table from end to end."""
    return sa.select(parameter).scalar_subquery()


def _prefix(column: sa.ColumnElement[str], name: str) -> sa.ColumnElement[bool]:
    """By the first 200 characters, which is what the index holds; the end comes right after all with the prefix."""
    start = builtin.left(column, sa.literal_column("200"))
    from_here = start.op("OPERATOR(pg_catalog.~>=~)", is_comparison=True)(_hidden(text_parameter(name)))
    before = start.op("OPERATOR(pg_catalog.~<~)", is_comparison=True)(_hidden(text_parameter(f"{name}_end")))
    return sa.and_(from_here, before)


_completed = sa.and_(
    workflows.c.complete_time >= _hidden(timestamp_parameter("completed_from")),
    workflows.c.complete_time < _hidden(timestamp_parameter("completed_to")),
)
_saved = sa.func.coalesce(workflows.c.last_heartbeat_at, workflows.c.create_time)
_FILTERS: dict[str, sa.ColumnElement[bool]] = {
    "reference": workflows.c.reference == _hidden(text_parameter("reference")),
    "root_workflow_id": workflows.c.root_workflow_id == _hidden(text_parameter("root_workflow_id")),
    "name_prefix": _prefix(workflows.c.name, "name_prefix"),
    "reference_prefix": sa.and_(workflows.c.reference.is_not(None), _prefix(workflows.c.reference, "reference_prefix")),
    "completed_from": _completed,
    "definition_id": workflows.c.definition_id == text_parameter("definition_id"),
    "status": workflows.c.status == sa.any_(texts_parameter("status")),
    "version": workflows.c.version == bigint_parameter("version"),
    "untouched_since": _saved < timestamp_parameter("untouched_since"),
}
# As a filter to find workflows by: the index on the time of completion begins with the status.
_OWN = _FILTERS | {"completed_from": sa.and_(workflows.c.status == sa.any_(texts_parameter("statuses")), _completed)}
_WITHIN_TIME: dict[str, sa.ColumnElement[bool]] = {
    "created_from": workflows.c.create_time >= timestamp_parameter("created_from"),
    "created_to": workflows.c.create_time < timestamp_parameter("created_to"),
}
IN_ORDER = ("definition_id", "status")
"""Filters whose index has the time of creation, too."""
INDEXED = ("reference", "root_workflow_id", "name_prefix", "reference_prefix", "completed_from", *IN_ORDER)
# Always true, and the predicate of the index on the time alone: a filter that has an index of its own leaves it out,
# because the planner would walk that index, and for a rare value all of it.
_BY_TIME_ALONE = workflows.c.id >= sa.literal_column("''", sa.Text())


@cache
def count_matches(names: tuple[str, ...]) -> sa.Executable:
    """One row: of each of these filters, how many workflows match it, up to one more than `FEW`."""
    few = [
        sa.select(workflows.c.id).where(_OWN[name]).limit(sa.literal_column(str(FEW + 1))).subquery() for name in names
    ]
    return sa.select(*(sa.select(sa.func.count()).select_from(it).scalar_subquery() for it in few))


@cache
def find_workflows(filters: frozenset[str], by: str, *, newest_first: bool = True) -> sa.Executable:
    """`:limit` workflows by the filters of these names, in the order of their creation, by the index of one of them.

    Of each its place, its summary, and whether the look ended there; at the end of the look also one that does not
    match, without a summary. Without other filters the look ends with the page.
    """
    others = [condition for name, condition in _FILTERS.items() if name in filters and name != by]
    window = sa.literal_column(str(WINDOW if by in (TIME, *IN_ORDER) else FEW)) if others else bigint_parameter("limit")
    summary = json_row(SUMMARY_FIELDS)
    summary = sa.case((sa.and_(*others), summary)) if others else summary
    seen = _page(filters, by, summary, window, newest_first).subquery("seen")
    number = sa.func.row_number().over(order_by=_order(seen.c, newest_first)) if others else sa.literal_column("0")
    looked = sa.select(seen, (number == window).label("is_last")).subquery("looked")
    place = as_text(builtin.json_build_array(in_utc(looked.c.create_time), looked.c.id))
    shown = sa.select(place, looked.c.summary, looked.c.is_last).where(
        sa.or_(looked.c.summary.is_not(None), looked.c.is_last)
    )
    return shown.order_by(*_order(looked.c, newest_first)).limit(bigint_parameter("limit"))


def _page(
    filters: frozenset[str], by: str, summary: sa.ColumnElement[str], window: sa.ColumnElement[int], newest_first: bool
) -> sa.Select[Any]:
    """The first workflows, as many as the window holds, by one filter alone."""
    page = sa.select(workflows.c.create_time, workflows.c.id, summary.label("summary"))
    page = page.where(*(condition for name, condition in _WITHIN_TIME.items() if name in filters))
    if "before_id" in filters:
        place = sa.tuple_(workflows.c.create_time, workflows.c.id)
        page = page.where(place < _BEFORE if newest_first else place > _BEFORE)
    order = _order(workflows.c, newest_first)
    if by == TIME:
        return page.where(_BY_TIME_ALONE).order_by(*order).limit(window)
    if by != "status":
        return first_rows(page.where(_OWN[by]), partial(_order, newest_first=newest_first), window)
    # Each of the statuses has an index scan of its own, and what these find is merged.
    wanted = sa.func.unnest(texts_parameter("status")).table_valued("status", name="wanted").render_derived()
    own = page.where(workflows.c.status == wanted.c.status).order_by(*order).limit(window).lateral("own")
    merged = sa.select(*own.c).select_from(wanted.join(own, sa.true()))
    return merged.order_by(*_order(own.c, newest_first)).limit(window)


def _order(columns: Any, newest_first: bool) -> list[sa.ColumnElement[Any]]:
    return [it.desc() if newest_first else it.asc() for it in (columns.create_time, columns.id)]


# Constant within the statement, so that indexes can be used, and not the time at which a transaction began.
_now = builtin.statement_timestamp()
_now_milliseconds = sa.cast(sa.extract("epoch", _now) * 1000, sa.BigInteger())


def _count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*conditions).scalar_subquery()


def _least(column: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    shown = in_utc(column) if isinstance(column.type, sa.DateTime) else column
    return sa.select(sa.func.min(shown)).where(*conditions).scalar_subquery()


def _count_by(column: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    counts = sa.select(column.label("value"), sa.func.count().label("number")).group_by(column).subquery()
    return sa.select(builtin.json_object_agg(counts.c.value, counts.c.number)).scalar_subquery()


_runnable_due = (
    sa.literal_column("(status = 'Runnable') IS TRUE", sa.Boolean()),
    workflows.c.next_execution <= _now_milliseconds,
)
_unprocessed = sa.literal_column("(is_processed = false) IS TRUE", sa.Boolean())
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
    "held_subscriptions": _count(subscriptions, IS_OPEN.is_not(sa.true())),  # a token without an expiry makes it NULL
    "expired_subscriptions": _count(subscriptions, subscriptions.c.external_token.is_not(None), IS_OPEN),
    "execution_errors": _count(errors),
    "now": sa.extract("epoch", builtin.clock_timestamp()),
}


CLOCK = sa.select(as_text(_STATISTICS["now"]))


@cache
def statistics(version_table: str) -> sa.Executable:
    """All of them in one row, with the schema revision from this table."""
    version = sa.Table(version_table, sa.MetaData(schema=SCHEMA), sa.Column("version_num", sa.Text())).c.version_num
    values = _STATISTICS | {"schema_revision": sa.select(sa.func.max(version)).scalar_subquery()}
    members = (part for name, value in values.items() for part in (sa.literal_column(f"'{name}'"), value))
    return sa.select(as_text(builtin.json_build_object(*members)))
