"""Deletion: one workflow, workflows that ended long ago, old events, everything."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from wfe_postgres.codec.json_values import decode
from wfe_postgres.codec.validation import milliseconds, positive, text, timestamp
from wfe_postgres.connections import Execute
from wfe_postgres.contract.errors import PersistenceError, WorkflowNotFoundError
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.orm import Base
from wfe_postgres.repositories.base import Repository, logger
from wfe_postgres.statements import maintenance as statements
from wfe_postgres.statements import workflows as workflow_statements

_PURGEABLE = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)
_REST = 2
"""How long a purge pauses after a batch, as a multiple of the batch's own time: for the hosts that save meanwhile."""


class PostgresMaintenance(Repository):
    """Deletes what applications and operators no longer need."""

    def delete_workflow(self, id: str) -> None:
        """Remove a workflow, its pointers, subscriptions and errors, in one transaction.

        Raises `WorkflowNotFoundError`.
        """
        params = {"workflow_id": text(id, "id")}

        def attempt(execute: Execute, may_have_committed: bool) -> bool:
            if not execute(workflow_statements.LOCKED_REVISION, params):
                return may_have_committed
            return bool(execute(statements.DELETE_WORKFLOWS, {"workflow_ids": [id]}))

        if not self._runner.transact(attempt, id):
            raise WorkflowNotFoundError(id)

    def purge_workflows(self, status: WorkflowStatus, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all workflows of this status with `complete_time < older_than`, with all rows that belong to them.

        One transaction per `batch_size` workflows: what is done stays done when the call is interrupted. Left are
        workflows whose root (`root_workflow_id`) is stored and has not ended, workflows that are locked, and those to
        which a row of the application's refers by a foreign key that neither cascades nor sets NULL: the log names its
        table. After each batch the call pauses for twice the time that the batch took, for the hosts that save
        meanwhile. Returns the number removed, without a batch whose answer was lost with the connection. ValueError:
        the status is neither Complete nor Terminated.
        """
        if status not in _PURGEABLE:
            raise ValueError("only Complete and Terminated workflows can be purged")
        params = {
            "status": str(status),
            "older_than": timestamp(older_than, "older_than"),
            "batch_size": positive(batch_size, "batch_size"),
            "workflows": f"{self._schema}.workflows",
            "pointers": f"{self._schema}.execution_pointers",
        }

        restricting: list[tuple[str, str]] = []

        def attempt(execute: Execute, _: bool) -> int:
            rows = execute(statements.finished(tuple(condition for _, condition in restricting)), params)
            if rows and not restricting and rows[0][1]:
                restricting.extend(decode(rows[0][1]))
                rows = execute(statements.finished(tuple(condition for _, condition in restricting)), params)
            ids = [id for id, _ in rows]
            return len(execute(statements.DELETE_WORKFLOWS, {"workflow_ids": ids})) if ids else 0

        removed = self._in_batches(attempt)
        if restricting:
            self._warn_of_kept({table for table, _ in restricting}, params | {"batch_size": 1})
        return removed

    def purge_events(self, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all processed events with `event_time < older_than`; a transaction for each `batch_size`.

        Returns the number removed.
        """
        params = {"older_than": timestamp(older_than, "older_than"), "batch_size": positive(batch_size, "batch_size")}
        return self._in_batches(lambda execute, _: len(execute(statements.PURGE_EVENTS, params)))

    def purge_errors(self, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all errors with `error_time < older_than`; a transaction for each `batch_size`.

        Returns the number removed.
        """
        params = {"older_than": timestamp(older_than, "older_than"), "batch_size": positive(batch_size, "batch_size")}
        return self._in_batches(lambda execute, _: len(execute(statements.PURGE_ERRORS, params)))

    def delete_orphans(self, older_than: datetime) -> int:
        """Remove what belongs to nothing, if it is older: subscriptions and errors of workflows that are not stored,
        ProcessWorkflow commands without their workflow and ProcessEvent commands without their event.

        In one transaction. It reads the subscriptions, errors and commands that are older than that. Returns the
        number removed; 0 if an earlier try removed them and its answer was lost.
        """
        params = {
            "older_than": timestamp(older_than, "older_than"),
            "older_than_ms": milliseconds(older_than, "older_than"),
        }
        [(removed, _)] = self._runner.write(lambda execute, _: execute(statements.DELETE_ORPHANS, params))
        return int(removed)

    def _warn_of_kept(self, tables: set[str], params: dict[str, Any]) -> None:
        def attempt(execute: Execute, _: bool) -> bool:
            return bool(execute(statements.finished(), params))

        if self._runner.transact(attempt):
            names = ", ".join(sorted(tables))
            logger.warning("a purge leaves workflows to which rows of these tables refer: %s", names)

    def _in_batches(self, attempt: Callable[[Execute, bool], int]) -> int:
        removed = 0
        began = time.monotonic()
        while batch := self._runner.transact(attempt):
            removed += batch
            time.sleep(_REST * (time.monotonic() - began))
            began = time.monotonic()
        return removed

    def truncate_all(self) -> None:
        """Empty every table and restart its sequences, in one transaction: for tests.

        Raises `PersistenceError`, which names them, while other tables have a foreign key to one of the store's: they
        would have to be emptied, too.
        """
        tables = [f"{self._schema}.{table.name}" for table in Base.metadata.sorted_tables]

        def attempt(execute: Execute, _: bool) -> None:
            if referencing := execute(statements.REFERENCING_TABLES, {"tables": tables}):
                names = ", ".join(name for (name,) in referencing)
                raise PersistenceError(f"nothing was emptied: these tables refer to the store's: {names}")
            execute(statements.truncate(tuple(tables)), {})

        self._runner.write(attempt)
