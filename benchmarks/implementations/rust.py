"""The Rust provider's algorithm, in psycopg, on the Rust provider's tables.

A save is BEGIN, UPDATE of the workflow, DELETE of all its pointers, one INSERT per pointer, COMMIT. A load is two
SELECTs; several workflows are loaded one by one; each error is one INSERT. The tables have the Rust provider's layout
(schema revision 0001 of the migrations) in a separate schema: pointers have an index on `id` and none on `workflow_id`,
except those of `IndexedRust`. In the races the tables contain only the workflow in use, which minimizes the cost of
scans.

Statements are prepared, as in sqlx. The timings include encoding JSON and creating objects in Python.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url

from benchmarks.implementations.baseline import connect
from wfe_postgres import ExecutionError, ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus

_MIGRATIONS = Path(__file__).parents[2] / "migrations"

_INSERT_WORKFLOW = """
INSERT INTO workflows (name, root_workflow_id, definition_id, version, description, reference, status, data,
                            next_execution, create_time, complete_time, id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s)
"""
_UPDATE_WORKFLOW = """
UPDATE workflows
   SET name = %s, root_workflow_id = %s, definition_id = %s, version = %s, description = %s, reference = %s,
       status = %s, data = %s::jsonb, next_execution = %s, create_time = %s, complete_time = %s,
       last_heartbeat_at = now()
 WHERE id = %s
"""
_SELECT_WORKFLOW = """
SELECT id, name, root_workflow_id, definition_id, version, description, reference, status, data, next_execution,
       create_time, complete_time
  FROM workflows WHERE id = %s
"""
_POINTER = (
    "id, step_id, active, status, sleep_until, persistence_data, start_time, end_time, event_name, event_key,"
    " event_published, event_data, step_name, retry_count, children, context_item, predecessor_id, outcome, scope,"
    " extension_attributes"
)
_SELECT_POINTERS = f"SELECT {_POINTER} FROM execution_pointers WHERE workflow_id = %s"
_DELETE_POINTERS = "DELETE FROM execution_pointers WHERE workflow_id = %s"
_INSERT_POINTER = f"""
INSERT INTO execution_pointers (workflow_id, {_POINTER})
VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s::jsonb, %s::jsonb, %s, %s::jsonb,
        %s::jsonb, %s::jsonb)
"""
_INSERT_ERROR = """
INSERT INTO execution_errors (error_time, workflow_id, execution_pointer_id, message) VALUES (%s, %s, %s, %s)
"""


def create_tables(url: str) -> None:
    """Create the Rust provider's tables, without and with the index that they lack."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    for schema in (Rust.schema, IndexedRust.schema):
        config = Config(attributes={"engine": engine, "schema": schema})
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE INDEX ON {IndexedRust.schema}.execution_pointers (workflow_id)")
    engine.dispose()


class Rust:
    """See the module."""

    schema: ClassVar[str] = "rust"

    def __init__(self, url: str) -> None:
        self._connection = connect(url)
        self._connection.execute(f"SET search_path = {self.schema}".encode())

    def create(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        with self._connection.transaction():
            self._connection.execute(_INSERT_WORKFLOW, _workflow_values(instance))
            self._insert_pointers(instance)

    def load(self, id: str) -> WorkflowInstance:
        """See `Store`."""
        row = self._connection.execute(_SELECT_WORKFLOW, [id]).fetchone()
        assert row, "no such workflow"
        instance = _instance_of(row)
        instance.execution_pointers = [_pointer_of(it) for it in self._connection.execute(_SELECT_POINTERS, [id])]
        return instance

    def save(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        with self._connection.transaction():
            self._connection.execute(_UPDATE_WORKFLOW, _workflow_values(instance))
            self._connection.execute(_DELETE_POINTERS, [instance.id])
            self._insert_pointers(instance)

    def load_all(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        """Load several workflows one by one."""
        return [self.load(id) for id in ids]

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """Store the errors in one transaction."""
        with self._connection.transaction():
            for it in errors:
                values = (it.error_time, it.workflow_id, it.execution_pointer_id, it.message)
                self._connection.execute(_INSERT_ERROR, values)

    def undo_step(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        self._connection.execute("DELETE FROM execution_pointers WHERE id = %s", [instance.execution_pointers.pop().id])

    def clear(self) -> None:
        """See `Store`."""
        self._connection.execute("TRUNCATE workflows, execution_pointers, execution_errors")

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()

    def _insert_pointers(self, instance: WorkflowInstance) -> None:
        for pointer in instance.execution_pointers:
            self._connection.execute(_INSERT_POINTER, (instance.id, *_pointer_values(pointer)))


class IndexedRust(Rust):
    """With an index of the pointers on `workflow_id`, which the Rust provider's migrations do not create."""

    schema: ClassVar[str] = "rust_indexed"


def _json_of(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _workflow_values(it: WorkflowInstance) -> tuple[Any, ...]:
    return (
        it.name or it.id,
        it.root_workflow_id,
        it.workflow_definition_id,
        it.version,
        it.description,
        it.reference,
        it.status.value,
        json.dumps(it.data),
        it.next_execution,
        it.create_time,
        it.complete_time,
        it.id,
    )


def _pointer_values(it: ExecutionPointer) -> tuple[Any, ...]:
    return (
        it.id,
        it.step_id,
        it.active,
        it.status.value,
        it.sleep_until,
        _json_of(it.persistence_data),
        it.start_time,
        it.end_time,
        it.event_name,
        it.event_key,
        it.event_published,
        _json_of(it.event_data),
        it.step_name,
        it.retry_count,
        json.dumps(it.children),
        _json_of(it.context_item),
        it.predecessor_id,
        _json_of(it.outcome),
        json.dumps(it.scope),
        json.dumps(it.extension_attributes),
    )


def _instance_of(row: Sequence[Any]) -> WorkflowInstance:
    return WorkflowInstance(
        id=row[0],
        name=row[1],
        root_workflow_id=row[2],
        workflow_definition_id=row[3],
        version=row[4],
        description=row[5],
        reference=row[6],
        status=WorkflowStatus(row[7]),
        data=row[8],
        next_execution=row[9],
        create_time=row[10],
        complete_time=row[11],
    )


def _pointer_of(row: Sequence[Any]) -> ExecutionPointer:
    return ExecutionPointer(
        id=row[0],
        step_id=row[1],
        active=row[2],
        status=PointerStatus(row[3]),
        sleep_until=row[4],
        persistence_data=row[5],
        start_time=row[6],
        end_time=row[7],
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
