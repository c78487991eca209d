"""The errors of steps with the names of their workflows and steps, one by one and by kind."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Table,
    Text,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import aggregate_order_by

from wfe_postgres.cli.catalogue import Catalogue, workflows
from wfe_postgres.cli.lookups import pointers
from wfe_postgres.cli.text import AFTER_FRAME, FRAME, TRACEBACK
from wfe_postgres.codec.decoding import read_error
from wfe_postgres.codec.fields import ERROR_FIELDS
from wfe_postgres.codec.validation import checked, positive, text, timestamp
from wfe_postgres.orm import ErrorRow
from wfe_postgres.repositories.base import read_all
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    builtin,
    json_row,
    text_parameter,
    texts_parameter,
    timestamp_parameter,
)
from wfe_postgres.statements.tables import table_of

errors: Table = table_of(ErrorRow)

MAX_GROUPED = 100_000
"""How many errors, the newest, are looked at to group them."""

MAX_MESSAGE = 200
"""How many characters of the first line of a message decide its kind."""


def _literal(text: str) -> ColumnElement[str]:
    return literal_column("E'{}'".format(text.replace("\\", "\\\\")))


_LAST_FRAME = builtin.split_part(errors.c.message, _literal(FRAME), literal_column("-1"))
_EXCEPTION = case(
    (builtin.starts_with(errors.c.message, _literal(TRACEBACK)), builtin.substring(_LAST_FRAME, _literal(AFTER_FRAME)))
)
_TELLING = builtin.ltrim(func.coalesce(_EXCEPTION, errors.c.message), literal_column("E' \\t\\r\\n'"))
_FIRST_LINE = builtin.split_part(_TELLING, literal_column("E'\\n'"), literal_column("1"))
_FIRST_PART = builtin.left(_FIRST_LINE, literal_column(str(MAX_MESSAGE)))
_WITHOUT_QUOTES = builtin.regexp_replace(
    _FIRST_PART,
    literal_column("""'(^|[^[:alnum:]])("[^"]*"|''[^'']*'')'"""),
    literal_column("E'\\\\1*'"),
    literal_column("'g'"),
)
SHAPE: ColumnElement[str] = builtin.regexp_replace(
    _WITHOUT_QUOTES,
    literal_column("'[[:alnum:]_./:-]*[0-9][[:alnum:]_./:-]*'"),
    literal_column("'*'"),
    literal_column("'g'"),
)
"""The first line of a message (of a traceback, the one that names the exception) without what differs between two
errors of one kind: quoted texts, and words with digits (numbers, ids, times, addresses)."""

_STEP = func.coalesce(
    pointers.c.step_name, sql_cast(literal_column("'step '"), Text()) + sql_cast(pointers.c.step_id, Text())
)
_FILTERS: dict[str, ColumnElement[bool]] = {
    "workflow_id": errors.c.workflow_id == text_parameter("workflow_id"),
    "since": errors.c.error_time >= timestamp_parameter("since"),
    "step": or_(
        pointers.c.step_name == text_parameter("step"),
        sql_cast(pointers.c.step_id, Text()) == text_parameter("step"),
        errors.c.execution_pointer_id == text_parameter("step"),
    ),
}
_PYTHON_TIMES = errors.c.error_time.between(
    literal_column("timestamptz '0001-01-02 00:00:00+00'"), literal_column("timestamptz '9999-12-30 00:00:00+00'")
)


@dataclass(frozen=True)
class StepError:
    """An error of a step. `workflow` and `step` are names; `None` if the workflow or its pointer is not stored."""

    error_time: datetime
    workflow_id: str
    workflow: str | None
    execution_pointer_id: str
    step: str | None
    message: str


@dataclass(frozen=True)
class ErrorKind:
    """Errors of one step of one definition whose messages have the same shape."""

    errors: int
    workflows: int
    first: datetime
    last: datetime
    definition_id: str | None
    step: str | None
    message: str
    """The first line of the newest."""


@cache
def _find(filters: frozenset[str], *, grouped: bool) -> Executable:
    pointer = and_(pointers.c.id == errors.c.execution_pointer_id, pointers.c.workflow_id == errors.c.workflow_id)
    joined = errors.outerjoin(workflows, workflows.c.id == errors.c.workflow_id).outerjoin(pointers, pointer)
    columns: tuple[Any, ...] = (json_row(ERROR_FIELDS), workflows.c.name, _STEP)
    if grouped:
        columns = (
            errors.c.error_time,
            errors.c.workflow_id,
            workflows.c.definition_id,
            _STEP.label("step"),
            _FIRST_PART.label("message"),
            SHAPE.label("shape"),
        )
    conditions = [condition for name, condition in _FILTERS.items() if name in filters]
    found = (
        select(*columns)
        .select_from(joined)
        .where(*conditions, _PYTHON_TIMES if grouped else true())
        .order_by(errors.c.error_time.desc(), errors.c.id.desc())
        .limit(bigint_parameter("limit"))
    )
    return _by_kind(found) if grouped else found


def _by_kind(found: Select[Any]) -> Executable:
    some = found.cte("found")
    it = some.c
    number, last = func.count(), func.max(it.error_time)
    newest = func.array_agg(aggregate_order_by(it.message, it.error_time.desc()))[literal_column("1")]
    total = select(func.count()).select_from(some).scalar_subquery()
    workflows_of_kind = func.count(it.workflow_id.distinct())
    return (
        select(number, workflows_of_kind, func.min(it.error_time), last, it.definition_id, it.step, newest, total)
        .group_by(it.definition_id, it.step, it.shape)
        .order_by(number.desc(), last.desc())
    )


def _params(workflow_id: str | None, step: str | None, since: datetime | None) -> dict[str, Any]:
    return checked(workflow_id=(text, workflow_id), step=(text, step), since=(timestamp, since))


def find_errors(
    catalogue: Catalogue, workflow_id: str | None, step: str | None, since: datetime | None, limit: int
) -> list[StepError]:
    """Errors of steps, newest first; `step` is a step's name or number, or a pointer's id."""
    params = _params(workflow_id, step, since)
    rows = catalogue.read(_find(frozenset(params), grouped=False), params | {"limit": positive(limit, "limit")})
    return [
        StepError(it.error_time, it.workflow_id, workflow, it.execution_pointer_id, step_name, it.message)
        for json_row, workflow, step_name in rows
        for it in read_all([json_row], read_error)
    ]


def group_errors(
    catalogue: Catalogue, workflow_id: str | None, step: str | None, since: datetime | None
) -> tuple[list[ErrorKind], int]:
    """The kinds of errors, the most frequent first, and how many errors were looked at."""
    params = _params(workflow_id, step, since)
    rows = catalogue.read(_find(frozenset(params), grouped=True), params | {"limit": MAX_GROUPED})
    return [ErrorKind(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


_WANTED = func.unnest(texts_parameter("ids")).table_valued("id", name="wanted").render_derived()
_LAST = (
    select(builtin.left(_TELLING, literal_column("500")).label("message"))
    .where(errors.c.workflow_id == _WANTED.c.id)
    .order_by(errors.c.error_time.desc(), errors.c.id.desc())
    .limit(literal_column("1"))
    .lateral("last_error")
)
LAST_ERRORS: Executable = select(_WANTED.c.id, _LAST.c.message).select_from(_WANTED.join(_LAST, true()))


def last_errors(catalogue: Catalogue, workflow_ids: list[str]) -> dict[str, str]:
    """The last error's message of each of these workflows that has one."""
    return dict(map(tuple, catalogue.read(LAST_ERRORS, {"ids": workflow_ids}))) if workflow_ids else {}
