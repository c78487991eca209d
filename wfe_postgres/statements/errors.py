"""Errors of steps: each call is one statement."""

from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from wfe_postgres.codec.fields import ERROR_FIELDS
from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.statements.expressions import bigint_parameter, json_row, records, text_parameter, timestamp_parameter
from wfe_postgres.statements.tables import errors

_NAMES = ["workflow_id", "execution_pointer_id", "message", "error_time", "nonce"]
_records = records(errors, _NAMES, "errors")
STORE_ERRORS = sa.select(FORCE_SYNCHRONOUS_COMMIT).add_cte(
    upsert(errors)
    .from_select(_NAMES, sa.select(*_records.c))
    .on_conflict_do_nothing(index_elements=[errors.c.nonce])
    .cte("stored")
)


@cache
def find_errors(filters: frozenset[str]) -> sa.Executable:
    """Newest first, `:limit` of them, by the filters of these names."""
    conditions = {
        "workflow_id": errors.c.workflow_id == text_parameter("workflow_id"),
        "since": errors.c.error_time >= timestamp_parameter("since"),
    }
    return (
        sa.select(json_row(ERROR_FIELDS))
        .where(*(condition for name, condition in conditions.items() if name in filters))
        .order_by(errors.c.error_time.desc(), errors.c.id.desc())
        .limit(bigint_parameter("limit"))
    )
