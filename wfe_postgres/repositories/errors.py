"""Errors of steps in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime

from wfe_postgres.codec.change_tracking import new_revision
from wfe_postgres.codec.decoding import read_error
from wfe_postgres.codec.encoding import encode_plain_records, error_record
from wfe_postgres.codec.json_values import check_call_size
from wfe_postgres.codec.validation import checked, positive, text, timestamp
from wfe_postgres.contract.models import ExecutionError
from wfe_postgres.repositories.base import Repository, read_all
from wfe_postgres.statements import errors as statements


class PostgresErrors(Repository):
    """Errors of steps, on the table `execution_errors`. Every call is one statement."""

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """Store the errors, all of them or none."""
        nonce = new_revision() >> 1  # counted up from here, and still in the column's range
        records = [error_record(error, nonce + index, f"errors[{index}]") for index, error in enumerate(errors)]
        if not records:
            return
        encoded = encode_plain_records(records)
        check_call_size("errors", encoded)
        self._runner.write(lambda execute, _: execute(statements.STORE_ERRORS, {"errors": encoded}))

    def get_execution_errors(
        self, workflow_id: str | None = None, *, since: datetime | None = None, limit: int = 100
    ) -> list[ExecutionError]:
        """Errors of steps, newest first: of one workflow or of all, with `error_time >= since`. One statement."""
        limit = positive(limit, "limit")
        params = checked(workflow_id=(text, workflow_id), since=(timestamp, since))
        rows = self._runner.read(statements.find_errors(frozenset(params)), params | {"limit": limit})
        return read_all((json_row for (json_row,) in rows), read_error)
