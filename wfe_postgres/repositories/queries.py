"""Queries beyond the engine's interfaces: lists of workflows, and statistics."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from wfe_postgres.codec.decoding import read_summary
from wfe_postgres.codec.json_values import decode
from wfe_postgres.codec.validation import big_integer, checked, member, positive, text, timestamp
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.contract.queries import StoreStatistics, WorkflowPage, WorkflowSummary
from wfe_postgres.orm.base import version_table
from wfe_postgres.repositories.base import Repository, logger, read_all
from wfe_postgres.statements import queries as statements

_NO_MOMENTS = ("infinity", "-infinity")  # such a row is left out of a page, but the page may end with it
_TOLERATED_OFFSET = 2.0
"""In seconds: how far two clocks may be apart before it is logged."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresQueries(Repository):
    """What applications and operators ask of the store."""

    def find_workflows(
        self,
        *,
        status: WorkflowStatus | None = None,
        definition_id: str | None = None,
        version: int | None = None,
        reference: str | None = None,
        root_workflow_id: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> WorkflowPage:
        """Workflows that match every filter, newest first: `created_from <= create_time < created_to`.

        `cursor` is the `next_cursor` of the page before. No page has a gap or a repeat because rows were added
        meanwhile. One statement; ValueError for a bad cursor or a limit below 1.
        """
        limit = positive(limit, "limit")
        params = checked(
            status=(lambda value, path: member(WorkflowStatus, value, path), status),
            definition_id=(text, definition_id),
            version=(big_integer, version),
            reference=(text, reference),
            root_workflow_id=(text, root_workflow_id),
            created_from=(timestamp, created_from),
            created_to=(timestamp, created_to),
        )
        if cursor is not None:
            params |= _place_of(cursor)
        rows = self._runner.read(statements.find_workflows(frozenset(params)), params | {"limit": limit + 1})
        shown = rows[:limit]
        items: list[WorkflowSummary] = read_all((json_row for _, json_row in shown), read_summary)
        return WorkflowPage(items, _cursor_of(shown[-1][0]) if len(rows) > limit else None)

    def get_statistics(self) -> StoreStatistics:
        """How the store stands; one statement, one snapshot.

        It counts rows, so on large tables it reads them: workflows by status, open subscriptions and errors take
        time in proportion to their number; what is due and unprocessed comes from indexes. Logs a warning when this
        machine's clock is more than 2 s from the server's.
        """
        before = datetime.now(UTC)
        [(json_row,)] = self._runner.read(statements.statistics(version_table(self._schema)), {})
        after = datetime.now(UTC)
        statistics = _statistics_of(decode(json_row), before + (after - before) / 2)
        if abs(statistics.clock_offset) > _TOLERATED_OFFSET:
            logger.warning(
                "this machine's clock is %+.1f s from the database server's, by which leases and tokens are judged",
                statistics.clock_offset,
            )
        return statistics


def _cursor_of(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place_of(cursor: str) -> dict[str, str]:
    try:
        create_time, id = json.loads(base64.urlsafe_b64decode(cursor))
        if create_time not in _NO_MOMENTS:
            create_time = timestamp(datetime.fromisoformat(create_time + "+00:00"), "cursor")
        return {"before_time": create_time, "before_id": text(id, "cursor")}
    except (ValueError, TypeError, RecursionError, SerializationError):
        reason = "the cursor is none that find_workflows gave"
    raise ValueError(reason)


def _statistics_of(found: dict[str, Any], here: datetime) -> StoreStatistics:
    counts, now = found.pop("workflows") or {}, found.pop("now")
    for name in ("oldest_due", "oldest_due_command"):
        found[name] = _from_milliseconds(found[name])
    found["oldest_unprocessed_event"] = _from_text(found["oldest_unprocessed_event"])
    workflows = {status: counts.get(status.value, 0) for status in WorkflowStatus}
    return StoreStatistics(workflows=workflows, clock_offset=here.timestamp() - now, **found)


def _from_text(value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromisoformat(value + "+00:00")
    except ValueError:
        return None  # it has a time, but none that Python knows: such an event can be counted, not read


def _from_milliseconds(value: int | None) -> datetime | None:
    if value is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
