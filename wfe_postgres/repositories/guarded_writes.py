"""Writes to one workflow under its revision: refused when it was changed meanwhile, never done twice."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import repeat
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


def write_over(runner: StatementRunner, statement: Executable, params: Mapping[str, Any]) -> None:
    """Run the statement under whatever revision the workflow has: read that, and write under it.

    Where other writers come between twice, the row is locked first. Raises `WorkflowNotFoundError`.
    """
    write = _WriteOver(statements.REVISION, statement, params, ALL_STATUSES, tries=2)
    if runner.write(write, params["workflow_id"]) is None:
        write_locked(runner, statement, params)


def write_locked(
    runner: StatementRunner, statement: Executable, params: Mapping[str, Any], statuses: Collection[str] = ALL_STATUSES
) -> bool:
    """Run the statement under whatever revision the workflow has, in a transaction that locks its row first.

    False: its status is none of `statuses`, and nothing was written. Raises `WorkflowNotFoundError`.
    """
    write = _WriteOver(statements.LOCKED_REVISION, statement, params, statuses)
    return bool(runner.transact(write, params["workflow_id"]))


@dataclass(eq=False)
class _WriteOver:
    """Reads the revision by one statement, and writes under it by another, again where the row was changed between.

    By two, also where the first locks the row: a statement that waits for a lock goes on with the snapshot that it took
    before it waited, and would miss what another writer has added. On a caller's connection in autocommit the lock is
    gone before the second. `tries`: how often; `None` is the result when all were in vain.
    """

    read: Executable
    statement: Executable
    params: Mapping[str, Any]
    statuses: Collection[str]
    tries: int | None = None
    expected: int | None = None
    """The revision that the last write was under."""

    def __call__(self, execute: Execute, may_have_committed: bool) -> bool | None:
        id, new = self.params["workflow_id"], self.params["new_revision"]
        if may_have_committed and self.expected is not None and _was_committed(execute, id, self.expected, new):
            return True
        tried: int | None = None
        for _ in repeat(None) if self.tries is None else range(self.tries):
            found = execute(self.read, {"workflow_id": id})
            if not found:
                raise WorkflowNotFoundError(id)
            revision, status = found[0]
            if status not in self.statuses:
                return False
            if revision == tried:  # nobody came between: something suppresses the update
                raise ConcurrencyError(id, revision, revision)
            self.expected = tried = revision
            if execute(self.statement, {**self.params, "expected_revision": revision}):
                return True
            _require_new_subscriptions(execute, self.params)
        return None


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
