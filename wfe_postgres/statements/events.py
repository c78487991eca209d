"""Events: each call is one statement."""

import sqlalchemy as sa

from wfe_postgres.codec.fields import EVENT_FIELDS
from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    equal_row,
    first_rows,
    insert_new,
    json_row,
    text_parameter,
    timestamp_parameter,
)
from wfe_postgres.statements.tables import events

_by_id = events.c.id == text_parameter("event_id")
# The collation is that of the index with the time, and not of the one without.
_matching = (events.c.event_name.collate("C") == text_parameter("event_name")) & (
    events.c.event_key.collate("C") == text_parameter("event_key")
)
_oldest_first = (events.c.event_time, events.c.id)

CREATE = insert_new(events)
IS_STORED = equal_row(events, "is_processed")

GET = sa.select(json_row(EVENT_FIELDS)).where(_by_id)

# Spelled out, not a parameter: only so can the planner prove that the partial index applies.
RUNNABLE = (
    sa.select(events.c.id)
    .where(sa.text("(is_processed = false) IS TRUE"), events.c.event_time <= timestamp_parameter("as_at"))
    .order_by(*_oldest_first)
    .limit(bigint_parameter("limit"))
)


def _matching_ids(condition: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    found = sa.select(events.c.id, events.c.event_time).where(_matching, condition)
    first = first_rows(found, lambda it: (it.event_time, it.id), bigint_parameter("limit"))
    return first.with_only_columns(first.selected_columns.id)


MATCHING_UNTIL = _matching_ids(events.c.event_time <= timestamp_parameter("as_of"))
MATCHING_SINCE = _matching_ids(events.c.event_time >= timestamp_parameter("since"))

_marked = sa.update(events).where(_by_id).returning(events.c.id, FORCE_SYNCHRONOUS_COMMIT)
MARK_PROCESSED, MARK_UNPROCESSED = _marked.values(is_processed=True), _marked.values(is_processed=False)
