"""Workflow instances in PostgreSQL: a save, a load or a creation is one round trip at any size."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.codec.change_tracking import (
    TrackedRevision,
    compare,
    new_revision,
    renewed,
    snapshot_of,
    track_loaded,
)
from wfe_postgres.codec.decoding import read_pointers, read_workflow
from wfe_postgres.codec.encoding import creation_parameters, save_parameters
from wfe_postgres.codec.validation import big_integer, count, definition, key, milliseconds, optional, text
from wfe_postgres.connections import Execute
from wfe_postgres.connections.failures import TOO_LARGE
from wfe_postgres.contract.errors import (
    CorruptRowError,
    OutcomeUnknownError,
    PersistenceError,
    SerializationError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.models import EventSubscription, WorkflowInstance, WorkflowStatus
from wfe_postgres.contract.repositories import WorkflowRepository
from wfe_postgres.contract.status_changes import UNFINISHED, completion_event_id
from wfe_postgres.repositories.base import Repository, id_or_new, logger
from wfe_postgres.repositories.guarded_writes import write_guarded, write_locked, write_over
from wfe_postgres.statements import status_changes
from wfe_postgres.statements import workflows as statements


class PostgresWorkflowRepository(Repository, WorkflowRepository):
    """`WorkflowRepository` on the tables `workflows`, `execution_pointers` and `definition_sequences`.

    A creation, a load and a save are one statement each, at any number of pointers; a save whose revision is `None`
    reads it by another. A save sends the pointers that have changed since the load, and `data` if that has;
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
        statement = statements.SAVES[changes.row, changes.is_complete, bool(changes.removed), bool(subscriptions)]
        if params["expected_revision"] is None:
            write_over(self._runner, statement, params)
        else:
            self._runner.write(partial(write_guarded, statement, params), instance.id)
        for subscription, id in zip(subscriptions, ids, strict=True):
            subscription.id = id
        instance.revision = TrackedRevision(revision, changes.after)

    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        params: dict[str, Any] = {"as_at": milliseconds(as_at, "as_at"), "limit": count(limit, "limit")}
        statement: Executable = statements.RUNNABLE
        if definitions is not None:
            statement = statements.RUNNABLE_OF_DEFINITIONS
            known = sorted({definition(it, f"definitions[{index}]") for index, it in enumerate(definitions)})
            params |= {"definition_ids": [id for id, _ in known], "versions": [version for _, version in known]}
        return [id for (id,) in self._runner.read(statement, params)]

    def renew_workflow(self, id: str, revision: int, next_execution: int | None) -> int:
        params = _changed(id) | {"expected_revision": big_integer(revision, "revision")}
        params["next_execution"] = optional(big_integer)(next_execution, "next_execution")
        self._runner.write(partial(write_guarded, status_changes.RENEW, params), id)
        return renewed(revision, params["new_revision"])

    def suspend_workflow(self, id: str) -> bool:
        return write_locked(self._runner, status_changes.SUSPEND, _changed(id), (WorkflowStatus.RUNNABLE,))

    def resume_workflow(self, id: str, *, skip_failed: bool = False) -> bool:
        statement = status_changes.RESUME_AFTER_FAILED if skip_failed else status_changes.RESUME
        return write_locked(self._runner, statement, _changed(id), (WorkflowStatus.SUSPENDED,))

    def terminate_workflow(self, id: str) -> bool:
        params = _changed(id) | {"event_id": completion_event_id(id)}
        return write_locked(self._runner, status_changes.TERMINATE, params, UNFINISHED)

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        return self._get(statements.GET, "workflow_id", text(id, "id"))

    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        return self._get(statements.GET_BY_NAME, "name", text(name, "name"))

    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        wanted = [text(id, f"ids[{index}]") for index, id in enumerate(ids)]
        if not wanted:
            return []
        rows: dict[str, list[str]] = {}
        try:
            for id, json_row in self._load(statements.GET_MANY, "workflow_ids", wanted):
                rows.setdefault(id, []).append(json_row)
        except CorruptRowError as error:
            if len(wanted) > 1:
                return [it for id in wanted for it in self.get_workflow_instances([id])]
            logger.error("left out of a list: workflow %r: %s", wanted[0], error)
            return []
        loaded: dict[str, WorkflowInstance] = {}
        for id, json_rows in rows.items():
            try:
                loaded[id] = _instance_of(json_rows)
            except CorruptRowError as error:
                logger.error("left out of a list: workflow %r: %s", id, error)
        found = [loaded[id] for id in wanted if id in loaded]
        return found if len(found) == len(loaded) else list(map(deepcopy, found))

    def next_definition_sequence(self, definition_id: str) -> int:
        params = {"definition_id": key(definition_id, "definition_id")}
        [(number, _)] = self._runner.write(lambda execute, _: execute(statements.NEXT_NUMBER, params), definition_id)
        return int(number)

    def _get(self, statement: Executable, parameter: str, value: str) -> WorkflowInstance:
        json_rows = [json_row for (json_row,) in self._load(statement, parameter, value)]
        if not json_rows:
            raise WorkflowNotFoundError(value)
        return _instance_of(json_rows)

    def _load(self, statement: Executable, parameter: str, value: str | list[str]) -> list[Any]:
        try:
            return list(self._runner.read(statement, {parameter: value}))
        except PersistenceError as error:
            if error.sqlstate != TOO_LARGE:
                raise
        raise CorruptRowError("workflows", str(value), "execution_pointers")


def _changed(id: str) -> dict[str, Any]:
    return {"workflow_id": text(id, "id"), "new_revision": new_revision()}


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


def _instance_of(json_rows: list[str]) -> WorkflowInstance:
    """Of one workflow's rows, which are taken out of the list: large texts need not be there to the end."""
    size = sum(map(len, map(str.encode, json_rows)))
    instance = read_workflow(json_rows.pop(0))
    instance.execution_pointers, positions, json_nulls = read_pointers(json_rows)
    track_loaded(instance, positions, json_nulls, size)
    return instance
