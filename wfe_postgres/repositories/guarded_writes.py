"""Writes to one workflow under its revision: refused when it was changed meanwhile, never done twice."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.connections import Execute, StatementRunner
from wfe_postgres.contract.errors import (
    ConcurrencyError,
    OutcomeUnknownError,
    SubscriptionExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.statements import subscriptions as subscription_statements
from wfe_postgres.statements import workflows as statements

ALL_STATUSES = tuple(WorkflowStatus)


def write_guarded(statement: Executable, params: Mapping[str, Any], execute: Execute, may_have_committed: bool) -> None:
    """Run the statement under `expected_revision`, the one that the instance was loaded with; it returns a row if that
    is the workflow's.

    Never merged, and never repeated on a conflict: the step ran on data that is stale now, so only the host can decide.

    Raises `WorkflowNotFoundError`, `ConcurrencyError`, `SubscriptionExistsError`.
    """
    id, expected = params["workflow_id"], params["expected_revision"]
    if may_have_committed and _was_committed(execute, id, expected, params["new_revision"]):
        return
    if execute(statement, params):
        return
    # By a second statement: in the first one's snapshot the other's save may not have been there yet.
    found = execute(statements.REVISION, {"workflow_id": id})
    if not found:
        raise WorkflowNotFoundError(id)
    if found[0][0] == expected:
        _require_new_subscriptions(execute, params)
    raise ConcurrencyError(id, expected, found[0][0])


def write_locked(
    runner: StatementRunner,
    statement: Executable,
    params: Mapping[str, Any],
    statuses: Collection[str] = ALL_STATUSES,
) -> bool:
    """Run the statement under whatever revision the workflow has, in a transaction that locks its row first.

    False: its status is none of `statuses`, and nothing was written. Raises `WorkflowNotFoundError`.
    """
    return runner.transact(_LockedWrite(statement, params, statuses), params["workflow_id"])


class _LockedWrite:
    """A statement that waits for a lock goes on with the snapshot that it took before it waited, and would miss what
    another writer has added. So the row is locked by a statement before."""

    def __init__(self, statement: Executable, params: Mapping[str, Any], statuses: Collection[str]) -> None:
        self._statement = statement
        self._params = params
        self._statuses = statuses
        self._expected: int | None = None

    def __call__(self, execute: Execute, may_have_committed: bool) -> bool:
        id, new = self._params["workflow_id"], self._params["new_revision"]
        if may_have_committed and self._expected is not None and _was_committed(execute, id, self._expected, new):
            return True
        tried: int | None = None
        while True:
            found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
            if not found:
                raise WorkflowNotFoundError(id)
            revision, status = found[0]
            if status not in self._statuses:
                return False
            if revision == tried:  # nobody came between: something suppresses the update
                raise ConcurrencyError(id, revision, revision)
            self._expected = tried = revision
            # Guarded all the same: on a caller's connection in autocommit the lock is gone by now.
            if execute(self._statement, {**self._params, "expected_revision": revision}):
                return True
            _require_new_subscriptions(execute, self._params)


def _require_new_subscriptions(execute: Execute, params: Mapping[str, Any]) -> None:
    """Whether that is why a save was refused."""
    if stored := execute(subscription_statements.STORED_OF, {"subscription_ids": params.get("subscription_ids", [])}):
        raise SubscriptionExistsError(stored[0][0])


def _was_committed(execute: Execute, id: str, expected: int, new: int) -> bool:
    """Whether a write whose answer was lost was committed; waits for it to end, if it is still running."""
    found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
    revision = found[0][0] if found else None
    if revision not in (expected, new):
        reason = "the connection was lost during a save, and the workflow has been changed since"
        raise OutcomeUnknownError(reason, (id,))
    return bool(revision == new)
