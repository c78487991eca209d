"""Workflow instances in PostgreSQL: a save, a load or a creation is one round trip at any size."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.codec.change_tracking import Changes, Snapshot, compare, loaded, recall, remember
from wfe_postgres.codec.decoding import read, read_pointers
from wfe_postgres.codec.fields import (
    WORKFLOW_COLUMNS,
    encode_pointer,
    encode_records,
    encode_subscription,
    workflow_from_document,
    workflow_to_record,
)
from wfe_postgres.codec.json_values import encode
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
from wfe_postgres.repositories.base import Repository, check_call_size, id_or_new, logger, new_revision
from wfe_postgres.statements import workflows as statements


class PostgresWorkflowRepository(Repository, WorkflowRepository):
    """`WorkflowRepository` on the tables `workflows`, `execution_pointers` and `definition_sequences`."""

    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        """See `WorkflowRepository`. One statement."""
        id = id_or_new(instance.id)
        name = instance.name if instance.name != "" else id
        changes = compare(instance, None)
        revision = new_revision()
        record = workflow_to_record(instance, id, name)
        record["data"] = self._encode_data(instance)
        record["pointers"] = self._encode_pointers(instance, id, changes)
        record["revision"] = revision
        check_call_size("execution_pointers", record["description"], record["data"], record["pointers"])

        def attempt(execute: Execute, again: bool) -> None:
            if not execute(statements.CREATE, record):
                _require_own(execute, again, id, name, revision)

        self._runner.write(attempt, id)
        instance.id, instance.name = id, name
        _settle(instance, revision, changes)
        return id

    def persist_workflow(self, instance: WorkflowInstance) -> None:
        """See `WorkflowRepository`. One statement, if the instance was loaded or saved before and not copied since.

        What is sent is what has changed: unchanged pointers are neither sent nor rewritten.
        """
        self._save(instance, ())

    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        """See `WorkflowRepository`. A subscription id that is stored already: `PersistenceError`, nothing written."""
        self._save(instance, subscriptions)

    def get_runnable_instances(self, as_at: datetime, limit: int | None = None) -> list[str]:
        """See `WorkflowRepository`."""
        given = {"as_at": milliseconds(as_at, "as_at"), "most": count(limit, "limit")}
        return [id for (id,) in self._runner.read(statements.RUNNABLE, given)]

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        return self._get(statements.GET, "workflow_id", text(id, "id"))

    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        return self._get(statements.GET_BY_NAME, "name", text(name, "name"))

    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        """See `WorkflowRepository`. One that cannot be read is left out, too, and its id logged."""
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
        """See `WorkflowRepository`. A number may be skipped, when an answer was lost."""
        given = {"definition_id": key(definition_id, "definition_id")}
        [(number, _)] = self._runner.write(lambda execute, _: execute(statements.NEXT_NUMBER, given), definition_id)
        return int(number)

    def _get(self, statement: Executable, parameter: str, value: str) -> WorkflowInstance:
        rows = list(self._runner.read(statement, {parameter: value}))
        if not rows:
            raise WorkflowNotFoundError(value)
        return _instance_of(rows.pop())

    def _save(self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]) -> None:
        before = recall(instance)
        changes = compare(instance, before)
        ids = _subscription_ids(subscriptions)
        record = workflow_to_record(instance, instance.id, instance.name)
        record["workflow_id"] = record.pop("id")
        record["data"] = self._encode_data(instance) if changes.data else None
        record["pointers"] = self._encode_pointers(instance, instance.id, changes)
        record["new_revision"] = new_revision()
        if before:
            record["removed"] = changes.removed
        else:
            record["kept"] = list(changes.after)
        if subscriptions:
            record["subscriptions"] = self._encode_subscriptions(subscriptions, ids)
        sent = (record["description"], record["data"], record["pointers"], record.get("subscriptions"))
        check_call_size("execution_pointers", *sent)
        statement = statements.save(
            complete=not before, removes=bool(changes.removed), with_subscriptions=bool(subscriptions)
        )
        self._write(statement, instance, record)
        for subscription, id in zip(subscriptions, ids, strict=True):
            subscription.id = id
        _settle(instance, record["new_revision"], changes)

    def _write(self, statement: Executable, instance: WorkflowInstance, record: dict[str, Any]) -> None:
        if instance.revision is None:
            self._runner.transact(_Unconditional(statement, record), instance.id)
        else:
            self._runner.write(_Guarded(statement, record, instance.revision), instance.id)

    def _encode_data(self, instance: WorkflowInstance) -> str:
        return encode(instance.data, "data", self._max_payload_bytes)

    def _encode_pointers(self, instance: WorkflowInstance, id: str, changes: Changes) -> str:
        return encode_records(
            encode_pointer(
                instance.execution_pointers[index],
                position,
                id,
                f"execution_pointers[{index}]",
                self._max_payload_bytes,
            )
            for index, position in changes.pointers
        )

    def _encode_subscriptions(self, subscriptions: Sequence[EventSubscription], ids: Sequence[str]) -> str:
        return encode_records(
            encode_subscription(subscription, id, f"subscriptions[{index}].", self._max_payload_bytes)
            for index, (subscription, id) in enumerate(zip(subscriptions, ids, strict=True))
        )


class _Guarded:
    """A save under the stamp that the instance was loaded with. Never merged or repeated on a conflict: the step
    ran on what is stale now, so only the host can decide."""

    def __init__(self, statement: Executable, record: dict[str, Any], expected: int) -> None:
        self._statement = statement
        self._record = record | {"expected_revision": expected}
        self._expected = expected

    def __call__(self, execute: Execute, again: bool) -> None:
        id, new = self._record["workflow_id"], self._record["new_revision"]
        if again and _took_place(execute, id, self._expected, new):
            return
        if execute(self._statement, self._record):
            return
        # By a second statement: in the first one's snapshot the other's save may not have been there yet.
        found = execute(statements.REVISION, {"workflow_id": id})
        if not found:
            raise WorkflowNotFoundError(id)
        raise ConcurrencyError(id, self._expected, found[0][0])


class _Unconditional:
    """A save over whatever is there: the row is locked first, because a statement that waits for a lock inside goes
    on with the snapshot it took before, and would miss the pointers that the writer before it added."""

    def __init__(self, statement: Executable, record: dict[str, Any]) -> None:
        self._statement = statement
        self._record = record
        self._expected: int | None = None

    def __call__(self, execute: Execute, again: bool) -> None:
        id, new = self._record["workflow_id"], self._record["new_revision"]
        if again and self._expected is not None and _took_place(execute, id, self._expected, new):
            return
        while True:
            found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
            if not found:
                raise WorkflowNotFoundError(id)
            self._expected = found[0][0]
            # Guarded even so: on a caller's connection in autocommit the lock is gone again by now.
            if execute(self._statement, self._record | {"expected_revision": self._expected}):
                return


def _took_place(execute: Execute, id: str, expected: int, new: int) -> bool:
    """Whether a save whose answer was lost was made; waits for it to end, if it is still running."""
    found = execute(statements.LOCKED_REVISION, {"workflow_id": id})
    stamp = found[0][0] if found else None
    if stamp not in (expected, new):
        reason = "the connection was lost during a save, and the workflow has been changed since"
        raise OutcomeUnknownError(reason, (id,))
    return bool(stamp == new)


def _require_own(execute: Execute, again: bool, id: str, name: str, revision: int) -> None:
    """After a creation that met a row: fine, if the row is the one that a cut-off try has left."""
    found = execute(statements.REVISION, {"workflow_id": id}) if again else ()
    if not found:
        raise WorkflowExistsError(id, name)
    if found[0][0] != revision:
        reason = (
            "the connection was lost during a creation, and there is a workflow that may be this one, changed since"
        )
        raise OutcomeUnknownError(reason, (id,))


def _settle(instance: WorkflowInstance, revision: int, changes: Changes) -> None:
    instance.revision = revision
    remember(instance, Snapshot(instance.id, revision, changes.data_after, changes.after))


def _subscription_ids(subscriptions: Sequence[EventSubscription]) -> list[str]:
    ids = [id_or_new(subscription.id) for subscription in subscriptions]
    for index, id in enumerate(ids):
        if id in ids[:index]:
            raise SerializationError(f"subscriptions[{index}].id", "two subscriptions have the same id")
    return ids


def _instance_of(row: Any) -> WorkflowInstance:
    _, document, pointers = row
    instance = read(document, workflow_from_document, WORKFLOW_COLUMNS)
    instance.execution_pointers, positions = read_pointers(pointers)
    del row, document, pointers  # large texts need not be there while the snapshot is made
    loaded(instance, positions)
    return instance
