"""Queries beyond the engine's interfaces: lists of workflows, and statistics."""

import base64
import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Unpack

from wfe_postgres.codec.decoding import read_summary
from wfe_postgres.codec.json_values import decode
from wfe_postgres.codec.validation import big_integer, member, positive, text, timestamp
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.contract.queries import StoreStatistics, WorkflowFilters, WorkflowPage, WorkflowSummary
from wfe_postgres.orm.base import version_table
from wfe_postgres.repositories.base import Repository, logger, read_all
from wfe_postgres.statements import queries as statements

_NO_TIMESTAMPS = ("infinity", "-infinity")  # such a row is left out of a page, but the page may end with it
_TOLERATED_OFFSET = 2.0
"""In seconds: how far two clocks may be apart before it is logged."""

MAX_PREFIX = 200
"""Characters of a name or a reference that an index holds."""
_LAST_CHARACTER = chr(0x10FFFF)
_MARK = {"newest": "", "oldest": "+"}
"""What a cursor ends with: one order's is refused by the other."""

_BY_TIME = (statements.TIME, *statements.IN_ORDER)
_OPEN = frozenset({WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MILLISECOND = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


class PostgresQueries(Repository):
    """What applications and operators ask of the store."""

    def find_workflows(
        self,
        *,
        order: Literal["newest", "oldest"] = "newest",
        limit: int = 100,
        cursor: str | None = None,
        **filters: Unpack[WorkflowFilters],
    ) -> WorkflowPage:
        """Workflows that match every one of the `WorkflowFilters`, in the order of their creation.

        `cursor` is the `next_cursor` of the page before, in the same order. No page has a gap or a repeat because rows
        were added meanwhile. What a page costs does not grow with the store: among more than 10,000 workflows to
        choose from it looks at 10,000. So it can have fewer items than its limit, or none, and a `next_cursor`.

        ValueError: a bad cursor, order or combination, a limit below 1, an empty or a too long prefix.
        """
        limit = positive(limit, "limit")
        if order not in _MARK:
            raise ValueError("order is newest or oldest")
        params = _checked(filters)
        if cursor is not None:
            params |= _place_of(cursor, order)
        by = self._index_for(params)
        matches: list[Any] = []
        place = None
        for _ in range(statements.FEW // statements.WINDOW if by in _BY_TIME else 1):
            statement = statements.find_workflows(frozenset(params), by, newest_first=order == "newest")
            rows = self._runner.read(statement, params | {"limit": limit + 1 - len(matches)})
            matches += [row for row in rows if row[1]]
            place = matches[limit - 1][0] if len(matches) > limit else rows[-1][0] if rows and rows[-1][2] else None
            if place is None or len(matches) > limit:
                break
            params |= _position(*json.loads(place))
        items: list[WorkflowSummary] = read_all((json_row for _, json_row, _ in matches[:limit]), read_summary)
        return WorkflowPage(items, place and _cursor_of(place, order))

    def _index_for(self, params: dict[str, Any]) -> str:
        """The filter by whose index to find the page: one that few match, or else one whose index has the time."""
        given = [name for name in statements.INDEXED if name in params]
        if len(given) > 1 or not set(given) <= set(statements.IN_ORDER):
            counted = tuple(name for name in given if name != "status")
            [counts] = self._runner.read(statements.count_matches(counted), params)
            count, name = min(zip(counts, counted, strict=True))
            if count <= statements.FEW:
                return name
        open_only = _OPEN.issuperset(params.get("status", ()))  # mostly fewer than those of a definition
        in_order = sorted(statements.IN_ORDER, reverse=open_only)
        return next((name for name in in_order if name in given), statements.TIME)

    def get_clock_offset(self) -> float:
        """Seconds by which this machine's clock is ahead of the server's, to within half of a round trip."""
        before = datetime.now(UTC)
        [(now,)] = self._runner.read(statements.CLOCK, {})
        after = datetime.now(UTC)
        return (before + (after - before) / 2).timestamp() - float(now)

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


def _checked(filters: WorkflowFilters) -> dict[str, Any]:
    given = {name: value for name, value in filters.items() if value is not None}
    if unknown := given.keys() - _VALIDATORS.keys():
        raise TypeError(f"find_workflows() got an unexpected keyword argument {min(unknown)!r}")
    if "untouched_since" in given and not given.keys() & {"status", "definition_id"}:
        raise ValueError("untouched_since is for use with status or definition_id")
    params = {name: _VALIDATORS[name](value, name) for name, value in given.items()}
    if given.keys() & {"completed_from", "completed_to"}:
        always = {"completed_from": "-infinity", "completed_to": "infinity", "statuses": list(WorkflowStatus)}
        params = always | params
    # In the order of code points right after all texts of up to 200 characters that begin with the prefix.
    ends = {f"{it}_end": params[it].ljust(MAX_PREFIX + 1, _LAST_CHARACTER) for it in params if it.endswith("prefix")}
    return params | ends


def _statuses(value: Any, path: str) -> list[str]:
    several = isinstance(value, Collection) and not isinstance(value, str)
    return sorted({member(WorkflowStatus, it, path) for it in (value if several else [value])})


def _prefix(value: str, path: str) -> str:
    if not 0 < len(text(value, path)) <= MAX_PREFIX:
        raise ValueError(f"{path} has 1 to {MAX_PREFIX} characters")
    return value


_VALIDATORS: dict[str, Callable[[Any, str], Any]] = {
    "status": _statuses,
    "definition_id": text,
    "version": big_integer,
    "reference": text,
    "root_workflow_id": text,
    "created_from": timestamp,
    "created_to": timestamp,
    "completed_from": timestamp,
    "completed_to": timestamp,
    "name_prefix": _prefix,
    "reference_prefix": _prefix,
    "untouched_since": timestamp,
}


def _cursor_of(place: str, order: str = "newest") -> str:
    return base64.urlsafe_b64encode((place + _MARK[order]).encode()).decode()


def _place_of(cursor: str, order: str = "newest") -> dict[str, str]:
    try:
        place = base64.urlsafe_b64decode(cursor).decode()
        create_time, id = json.loads(place[: place.rindex("]") + 1])
        if not place.endswith("]" + _MARK[order]):
            raise ValueError
        if create_time not in _NO_TIMESTAMPS:
            timestamp(datetime.fromisoformat(create_time + "+00:00"), "cursor")
        return _position(create_time, text(id, "cursor"))
    except (ValueError, TypeError, RecursionError, SerializationError):
        reason = "the cursor is none that find_workflows gave"
    raise ValueError(reason)


def _position(create_time: str, id: str) -> dict[str, str]:
    """The parameters of a place."""
    return {"before_time": create_time + "+00:00" * (create_time not in _NO_TIMESTAMPS), "before_id": id}


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
    return None if value is None else _EPOCH + timedelta(milliseconds=max(value, _FIRST_MILLISECOND))
