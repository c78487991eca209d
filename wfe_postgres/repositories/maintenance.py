"""Deletion: one workflow, workflows that ended long ago, old events, everything."""

import time
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
            return bool(execute(statements.DELETE_WORKFLOWS, {"ids": [id]}))

        if not self._runner.transact(attempt, id):
            raise WorkflowNotFoundError(id)

    def purge_workflows(self, status: WorkflowStatus, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all workflows of this status with `complete_time < older_than`, with all rows that belong to them.

        One transaction per `batch_size` workflows that are looked at: what is done stays done when the call is
        interrupted. Left are families (those of one `root_workflow_id`, and that root) of which a member has not ended,
        workflows that are locked, and those to which, or to whose rows, a row of the application's refers by a foreign
        key that neither cascades nor sets NULL: the log names its table. After each batch the call pauses for twice the
        time that the batch took, for the hosts that save meanwhile. Returns the number removed, without a batch whose
        answer was lost with the connection. ValueError: the status is neither Complete nor Terminated.
        """
        if status not in _PURGEABLE:
            raise ValueError("only Complete and Terminated workflows can be purged")
        return self._purge(statements.WORKFLOWS, older_than, batch_size, status=str(status))

    def purge_events(self, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all processed events with `event_time < older_than`, as `purge_workflows` does: returns the number."""
        return self._purge(statements.EVENTS, older_than, batch_size)

    def purge_errors(self, older_than: datetime, *, batch_size: int = 1000) -> int:
        """Remove all errors with `error_time < older_than`, as `purge_workflows` does: returns the number."""
        return self._purge(statements.ERRORS, older_than, batch_size)

    def delete_orphans(self, older_than: datetime) -> int:
        """Remove what belongs to nothing, if it is older: subscriptions and errors of workflows that are not stored,
        ProcessWorkflow commands without their workflow and ProcessEvent commands without their event.

        In batches, as `purge_workflows` does; it reads the tables of subscriptions and commands once, and the errors
        that are older. Returns the number removed.
        """
        return sum(self._purge(it, older_than) for it in statements.ORPHANS)

    def _purge(self, purge: statements.Purge, older_than: datetime, batch_size: int = 1000, **params: Any) -> int:
        """Each row is looked at once, so rows that stay do not slow down the batches after them."""
        params["batch_size"] = batch_size = positive(batch_size, "batch_size")
        params["older_than"] = timestamp(older_than, "older_than")
        params["older_than_ms"] = milliseconds(older_than, "older_than")
        keys = self._runner.read(statements.RESTRICTING_KEYS, purge.tables(self._schema))
        batch = statements.batch(purge, tuple(sorted(condition for _, condition in keys)))
        removed = referenced = 0
        looked_at, place = batch_size, purge.start

        def attempt(execute: Execute, _: bool) -> tuple[int, str, int, int]:
            after = {it.key: value for it, value in zip(purge.order, place, strict=True)}
            [(looked_at, last, ids, referenced)] = execute(batch, params | after)
            return looked_at, last, len(execute(purge.deletion, {"ids": decode(ids)})) if ids else 0, referenced

        while looked_at == batch_size:
            began = time.monotonic()
            looked_at, last, deleted, kept = self._runner.transact(attempt)
            removed, referenced = removed + deleted, referenced + kept
            place = decode(last or "[]")
            time.sleep(_REST * (time.monotonic() - began))
        if referenced:
            names = ", ".join(sorted({table for table, _ in keys}))
            logger.warning("a purge leaves %s to which rows of these tables refer: %s", purge.table.name, names)
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
