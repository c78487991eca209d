"""Workflow instances in PostgreSQL: a save, a load or a creation is one round trip at any size."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.codec.change_tracking import TrackedRevision, compare, new_revision, snapshot_of, track_loaded
from wfe_postgres.codec.decoding import read_pointers, read_workflow
from wfe_postgres.codec.encoding import creation_parameters, save_parameters
from wfe_postgres.codec.validation import count, key, milliseconds, text
from wfe_postgres.connections import Execute
from wfe_postgres.contract.errors import (
    ConcurrencyError,
    CorruptRowError,
    OutcomeUnknownError,
    SerializationError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.interfaces import WorkflowRepository
from wfe_postgres.contract.models import EventSubscription, WorkflowInstance
from wfe_postgres.repositories.base import Repository, id_or_new, logger
from wfe_postgres.statements import workflows as statements


class PostgresWorkflowRepository(Repository, WorkflowRepository):
    """`WorkflowRepository` on the tables `workflows`, `execution_pointers` and `definition_sequences`.

    A creation, a load and a save are one statement each, at any number of pointers; a save whose revision is `None`
    locks the row by a second one. A save sends the pointers that have changed since the load, and `data` if that has;
    an instance that was made by hand or pickled is sent complete. In lists, a row that cannot be read is left out and
    its id is logged. `next_definition_sequence` may skip a number when the answer to a call was lost.
    """

    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        id = id_or_new(instance.id)
        name = instance.name if instance.name != "" else id
        changes = compare(instance, id, None)
        revision = new_revision()
        params = creation_parameters(instance, name, changes, revision, self._max_payload_bytes)

        def attempt(execute: Execute, may_have_committed: bool) -> None:
            if not execute(statements.CREATE, params):
                _require_own(execute, may_have_committed, id, name, revision)

        self._runner.write(attempt, id)
        instance.id, instance.name = id, name
        instance.revision = TrackedRevision(revision, changes.after)
        return id

    def persist_workflow(self, instance: WorkflowInstance) -> None:
        self.persist_workflow_with_subscriptions(instance, ())

    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        changes = compare(instance, instance.id, snapshot_of(instance))
        ids = _subscription_ids(subscriptions) if subscriptions else []
        revision = new_revision()
        params = save_parameters(instance, subscriptions, ids, changes, revision, self._max_payload_bytes)
        statement = statements.save(
            complete=changes.is_complete, removes=bool(changes.removed), with_subscriptions=bool(subscriptions)
        )
        self._save(statement, params)
        for subscription, id in zip(subscriptions, ids, strict=True):
            subscription.id = id
        instance.revision = TrackedRevision(revision, changes.after)

    def get_runnable_instances(self, as_at: datetime, limit: int | None = None) -> list[str]:
        params = {"as_at": milliseconds(as_at, "as_at"), "limit": count(limit, "limit")}
        return [id for (id,) in self._runner.read(statements.RUNNABLE, params)]

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        return self._get(statements.GET, "workflow_id", text(id, "id"))

    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        return self._get(statements.GET_BY_NAME, "name", text(name, "name"))

    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        wanted = [text(id, f"ids[{index}]") for index, id in enumerate(ids)]
        if not wanted:
            return []
        rows = {row[0]: row for row in self._runner.read(statements.GET_MANY, {"workflow_ids": wanted})}
        found = []
        for id in wanted:
            if id in rows:
                try:
                    found.append(_instance_of(rows[id]))
                except CorruptRowError as error:
                    logger.error("left out of a list: workflow %r: %s", id, error)
        return found

    def next_definition_sequence(self, definition_id: str) -> int:
        params = {"definition_id": key(definition_id, "definition_id")}
        [(number, _)] = self._runner.write(lambda execute, _: execute(statements.NEXT_NUMBER, params), definition_id)
        return int(number)

    def _get(self, statement: Executable, parameter: str, value: str) -> WorkflowInstance:
        rows = list(self._runner.read(statement, {parameter: value}))
        if not rows:
            raise WorkflowNotFoundError(value)
        return _instance_of(rows.pop())

    def _save(self, statement: Executable, params: dict[str, Any]) -> None:
        id: str = params["workflow_id"]
        if params["expected_revision"] is None:
            self._runner.transact(_UnconditionalSave(statement, params), id)
        else:
            self._runner.write(partial(_save_guarded, statement, params), id)


def _save_guarded(statement: Executable, params: Mapping[str, Any], execute: Execute, may_have_committed: bool) -> None:
    """A save under the revision that the instance was loaded with.

    Never merged, and never repeated on a conflict: the step ran on data that is stale now, so only the host can decide.
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
    raise ConcurrencyError(id, expected, found[0][0])


class _UnconditionalSave:
    """A save that overwrites what is stored.

    The row is locked first: a statement that waits for a lock goes on with the snapshot that it took before it waited,
    and would miss the pointers that another writer has added.
    """

    def __init__(self, statement: Executable, params: Mapping[str, Any]) -> None:
        self._statement = statement
        self._params = params
        self._expected: int | None = None

    def __call__(self, execute: Execute, may_have_committed: bool) -> None:
        id, new = self._params["workflow_id"], self._params["new_revision"]
        if may_have_committed and self._expected is not None and _was_committed(execute, id, self._expected, new):
            return
        while True:
            found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
            if not found:
                raise WorkflowNotFoundError(id)
            self._expected = found[0][0]
            # Guarded all the same: on a caller's connection in autocommit the lock is gone by now.
            if execute(self._statement, {**self._params, "expected_revision": self._expected}):
                return


def _was_committed(execute: Execute, id: str, expected: int, new: int) -> bool:
    """Whether a save whose answer was lost was committed; waits for it to end, if it is still running."""
    found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
    revision = found[0][0] if found else None
    if revision not in (expected, new):
        reason = "the connection was lost during a save, and the workflow has been changed since"
        raise OutcomeUnknownError(reason, (id,))
    return bool(revision == new)


def _require_own(execute: Execute, may_have_committed: bool, id: str, name: str, revision: int) -> None:
    """After a creation that found a row: correct, if it is the row of an earlier try whose answer was lost."""
    found = execute(statements.REVISION, {"workflow_id": id}) if may_have_committed else ()
    if not found:
        raise WorkflowExistsError(id, name)
    if found[0][0] != revision:
        reason = (
            "the connection was lost during a creation, and there is a workflow that may be this one, changed since"
        )
        raise OutcomeUnknownError(reason, (id,))


def _subscription_ids(subscriptions: Sequence[EventSubscription]) -> list[str]:
    ids = [id_or_new(subscription.id) for subscription in subscriptions]
    for index, id in enumerate(ids):
        if id in ids[:index]:
            raise SerializationError(f"subscriptions[{index}].id", "two subscriptions have the same id")
    return ids


def _instance_of(row: Any) -> WorkflowInstance:
    _, json_row, pointers = row
    instance = read_workflow(json_row)
    instance.execution_pointers, positions = read_pointers(pointers)
    del row, json_row, pointers  # large texts need not be there while the snapshot is made
    track_loaded(instance, positions)
    return instance
