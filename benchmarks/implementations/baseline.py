"""The baseline: the same operations, hand-written with psycopg, with the minimum of necessary work.

A call is one prepared statement in autocommit on an open connection, without pool, timeout, retry, validation or own
exceptions. It uses the same tables and has the same result:

- A load returns the same objects, created by simple code from one JSON text that the server builds. (Reading rows
  with psycopg's loaders was two to five times slower from 10 pointers on.)
- A save is conditional on the revision of the load. It sends the columns that a host changes, the changed and added
  pointers, and the ids of removed ones. `Baseline` finds out what has changed by comparing the bytes that orjson makes
  of each pointer with those that it made at the load, and encodes a record only for what has changed.
- `KnownChangesBaseline` is a lower bound that a real program cannot reach: it is told what has changed, and keeps no
  state at a load. The difference to it includes the cost of change detection.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import orjson
import psycopg
from sqlalchemy import create_engine, make_url

from wfe_postgres import ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus

POSITION_GAP = 2**20

_POINTER = (
    "id, step_id, active, status, sleep_until, persistence_data, start_time, end_time, event_name, event_key,"
    " event_published, event_data, step_name, retry_count, children, context_item, predecessor_id, outcome, scope,"
    " extension_attributes, position"
)
_RECORD = (
    "id text, step_id int, active boolean, status text, sleep_until timestamptz, persistence_data jsonb,"
    " start_time timestamptz, end_time timestamptz, event_name text, event_key text, event_published boolean,"
    " event_data jsonb, step_name text, retry_count int, children jsonb, context_item jsonb, predecessor_id text,"
    " outcome jsonb, scope jsonb, extension_attributes jsonb, position bigint"
)
_ASSIGNED = ", ".join(f"{name} = excluded.{name}" for name in _POINTER.split(", ")[1:])

LOAD = f"""
SELECT json_build_array(id, name, root_workflow_id, definition_id, version, description, reference, status, data,
                        next_execution, create_time, complete_time, revision)::text,
       (SELECT coalesce(json_agg(json_build_array({_POINTER}) ORDER BY position)::text, '[]')
          FROM wfc.execution_pointers WHERE workflow_id = workflows.id)
  FROM wfc.workflows WHERE id = %(id)s
"""

SAVE = f"""
WITH saved AS (
  UPDATE wfc.workflows
     SET status = %(status)s, data = coalesce(%(data)s::jsonb, data), next_execution = %(next_execution)s,
         complete_time = %(complete_time)s, last_heartbeat_at = now(), revision = %(revision)s
   WHERE id = %(id)s AND revision = %(expected)s
  RETURNING id
), gone AS (
  DELETE FROM wfc.execution_pointers
   WHERE workflow_id = (SELECT id FROM saved) AND id = ANY (%(removed)s::text[])
), written AS (
  INSERT INTO wfc.execution_pointers (workflow_id, {_POINTER})
  SELECT saved.id, pointer.* FROM saved, json_to_recordset(%(pointers)s::json) AS pointer ({_RECORD})
  ON CONFLICT (workflow_id, id) DO UPDATE SET {_ASSIGNED}
)
SELECT id FROM saved
"""

CREATE = f"""
WITH created AS (
  INSERT INTO wfc.workflows (id, name, root_workflow_id, definition_id, version, description, reference, status, data,
                             next_execution, create_time, complete_time, revision)
  VALUES (%(id)s, %(name)s, %(root_workflow_id)s, %(definition_id)s, %(version)s, %(description)s, %(reference)s,
          %(status)s, %(data)s::jsonb, %(next_execution)s, %(create_time)s, %(complete_time)s, %(revision)s)
  RETURNING id
), written AS (
  INSERT INTO wfc.execution_pointers (workflow_id, {_POINTER})
  SELECT created.id, pointer.* FROM created, json_to_recordset(%(pointers)s::json) AS pointer ({_RECORD})
)
SELECT id FROM created
"""

_WORKFLOW_STATUS = {status.value: status for status in WorkflowStatus}
_POINTER_STATUS = {status.value: status for status in PointerStatus}

TABLES = ("workflows", "execution_pointers", "events", "event_subscriptions", "execution_errors")


def connect(url: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """A connection in autocommit that prepares every statement at its first execution."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=0)


class KnownChangesBaseline:
    """See the module. Before each save, `changed` must contain the indexes of changed pointers, `removed` the ids."""

    schema: ClassVar[str] = "wfc"

    def __init__(self, url: str) -> None:
        self.connection = connect(url)
        self.changed: Sequence[int] = ()
        self.removed: Sequence[str] = ()

    def create(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        instance.name = instance.name or instance.id
        records = [_record_of(pointer, index) for index, pointer in enumerate(instance.execution_pointers)]
        revision = secrets.randbits(63)
        values = _values_of(instance, revision) | {"data": _text(instance.data), "pointers": _array_of(records)}
        self._row(CREATE, values)
        instance.revision = revision

    def load(self, id: str) -> WorkflowInstance:
        """See `Store`."""
        row = self._row(LOAD, {"id": id})
        assert row, "no such workflow"
        return _instance_of(orjson.loads(row[0]), orjson.loads(row[1]))

    def save(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        pointers = instance.execution_pointers
        self._send(instance, None, [_record_of(pointers[index], index) for index in self.changed], self.removed)

    def undo_step(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        self.changed, self.removed = (), [instance.execution_pointers.pop().id]
        self.save(instance)

    def clear(self) -> None:
        """See `Store`."""
        self.connection.execute(f"TRUNCATE {', '.join(f'wfc.{table}' for table in TABLES)}".encode())

    def close(self) -> None:
        """See `Store`."""
        self.connection.close()

    def _row(self, sql: str, values: Mapping[str, Any]) -> Sequence[Any] | None:
        return self.connection.execute(sql, values).fetchone()

    def _send(
        self, instance: WorkflowInstance, data: str | None, records: Sequence[str], removed: Sequence[str]
    ) -> None:
        revision = secrets.randbits(63)
        values = {
            "id": instance.id,
            "status": instance.status.value,
            "next_execution": instance.next_execution,
            "complete_time": instance.complete_time,
            "data": data,
            "pointers": _array_of(records),
            "removed": [*removed],
            "expected": instance.revision,
            "revision": revision,
        }
        assert self._row(SAVE, values), "the workflow was changed concurrently"
        instance.revision = revision


class Baseline(KnownChangesBaseline):
    """See the module. Detects changes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._stored: dict[str, tuple[bytes, dict[str, bytes]]] = {}

    def create(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        super().create(instance)
        self._stored[instance.id] = _known(instance)

    def load(self, id: str) -> WorkflowInstance:
        """See `Store`."""
        instance = super().load(id)
        self._stored[id] = _known(instance)
        return instance

    def save(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        data_before, before = self._stored[instance.id]
        data, pointers = _known(instance)
        changed = [
            _record_of(pointer, index)
            for index, pointer in enumerate(instance.execution_pointers)
            if before.get(pointer.id) != pointers[pointer.id]
        ]
        removed = [id for id in before if id not in pointers]
        self._send(instance, None if data == data_before else data.decode(), changed, removed)
        self._stored[instance.id] = data, pointers


class PooledBaseline(Baseline):
    """The baseline with a SQLAlchemy engine: each call uses a pooled connection and SQLAlchemy's execution path.

    Its overhead over the baseline is that of SQLAlchemy; the rest of the provider's overhead is its own.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """See `Store`."""
        super().close()
        self._engine.dispose()

    def _row(self, sql: str, values: Mapping[str, Any]) -> Sequence[Any] | None:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(sql, values).one_or_none()


def _known(instance: WorkflowInstance) -> tuple[bytes, dict[str, bytes]]:
    return orjson.dumps(instance.data), {pointer.id: orjson.dumps(pointer) for pointer in instance.execution_pointers}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _array_of(records: Sequence[str]) -> str:
    return f"[{','.join(records)}]"


def _values_of(instance: WorkflowInstance, revision: int) -> dict[str, Any]:
    return {
        "id": instance.id,
        "name": instance.name,
        "root_workflow_id": instance.root_workflow_id,
        "definition_id": instance.workflow_definition_id,
        "version": instance.version,
        "description": instance.description,
        "reference": instance.reference,
        "status": instance.status.value,
        "next_execution": instance.next_execution,
        "create_time": instance.create_time,
        "complete_time": instance.complete_time,
        "revision": revision,
    }


def _record_of(pointer: ExecutionPointer, index: int) -> str:
    return _text(
        {
            "id": pointer.id,
            "step_id": pointer.step_id,
            "active": pointer.active,
            "status": pointer.status,
            "sleep_until": pointer.sleep_until,
            "persistence_data": pointer.persistence_data,
            "start_time": pointer.start_time,
            "end_time": pointer.end_time,
            "event_name": pointer.event_name,
            "event_key": pointer.event_key,
            "event_published": pointer.event_published,
            "event_data": pointer.event_data,
            "step_name": pointer.step_name,
            "retry_count": pointer.retry_count,
            "children": pointer.children,
            "context_item": pointer.context_item,
            "predecessor_id": pointer.predecessor_id,
            "outcome": pointer.outcome,
            "scope": pointer.scope,
            "extension_attributes": pointer.extension_attributes,
            "position": POSITION_GAP * (index + 1),
        }
    )


def _timestamp_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _instance_of(workflow: list[Any], pointers: list[list[Any]]) -> WorkflowInstance:
    return WorkflowInstance(
        id=workflow[0],
        name=workflow[1],
        root_workflow_id=workflow[2],
        workflow_definition_id=workflow[3],
        version=workflow[4],
        description=workflow[5],
        reference=workflow[6],
        status=_WORKFLOW_STATUS[workflow[7]],
        data=workflow[8],
        next_execution=workflow[9],
        create_time=datetime.fromisoformat(workflow[10]),
        complete_time=_timestamp_of(workflow[11]),
        revision=workflow[12],
        execution_pointers=[_pointer_of(row) for row in pointers],
    )


def _pointer_of(row: list[Any]) -> ExecutionPointer:
    return ExecutionPointer(
        id=row[0],
        step_id=row[1],
        active=row[2],
        status=_POINTER_STATUS[row[3]],
        sleep_until=_timestamp_of(row[4]),
        persistence_data=row[5],
        start_time=_timestamp_of(row[6]),
        end_time=_timestamp_of(row[7]),
        event_name=row[8],
        event_key=row[9],
        event_published=row[10],
        event_data=row[11],
        step_name=row[12],
        retry_count=row[13],
        children=row[14],
        context_item=row[15],
        predecessor_id=row[16],
        outcome=row[17],
        scope=row[18],
        extension_attributes=row[19],
    )
