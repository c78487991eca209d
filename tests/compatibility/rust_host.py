"""A minimal Rust host: its statements, which use only the columns of the Rust layout."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from wfe_postgres import WorkflowInstance
from wfe_postgres.testing.conformance.support import at

Row = dict[str, Any]

LAYOUT = {
    "workflows": "id name root_workflow_id definition_id version description reference status data next_execution"
    " create_time complete_time last_heartbeat_at",
    "execution_pointers": "id workflow_id step_id active status sleep_until persistence_data start_time end_time"
    " event_name event_key event_published event_data step_name retry_count children context_item predecessor_id"
    " outcome scope extension_attributes",
    "events": "id event_name event_key event_data event_time is_processed",
    "event_subscriptions": "id workflow_id step_id execution_pointer_id event_name event_key subscribe_as_of"
    " subscription_data external_token external_worker_id external_token_expiry",
    "execution_errors": "error_time workflow_id execution_pointer_id message",
}
JSON_COLUMNS = {
    "data",
    "persistence_data",
    "event_data",
    "children",
    "context_item",
    "outcome",
    "scope",
    "extension_attributes",
    "subscription_data",
}
SCHEDULE = """
    INSERT INTO wfc.scheduled_commands (command_name, data, execute_time) VALUES (%s, %s, %s)
    ON CONFLICT (command_name, data) DO UPDATE SET execute_time = %s
"""
NEXT_NUMBER = """
    INSERT INTO wfc.definition_sequences (definition_id, next_num) VALUES (%s, 1)
    ON CONFLICT (definition_id) DO UPDATE SET next_num = wfc.definition_sequences.next_num + 1 RETURNING next_num
"""
TAKE_TOKEN = """
    UPDATE wfc.event_subscriptions
    SET external_token = %s, external_worker_id = %s, external_token_expiry = %s
    WHERE id = %s AND external_token IS NULL
"""
CLEAR_TOKEN = """
    UPDATE wfc.event_subscriptions
    SET external_token = NULL, external_worker_id = NULL, external_token_expiry = NULL
    WHERE id = %s AND external_token = %s
"""


class RustHost:
    """One connection of a Rust host. Rows are dicts; each method runs in its own transaction."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    def rows(self, table: str, **where: Any) -> list[Row]:
        """All columns of the rows with these values."""
        condition = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(sql.Identifier(it), where[it]) for it in where)
        chosen = sql.SQL("SELECT * FROM wfc.{} WHERE {}").format(
            sql.Identifier(table), condition if where else sql.SQL("true")
        )
        return self._connection.execute(chosen).fetchall()

    def row(self, table: str, **where: Any) -> Row:
        """The only row with these values."""
        [found] = self.rows(table, **where)
        return found

    def insert(self, table: str, *rows: Row) -> None:
        """Insert rows with the columns of the Rust layout."""
        with self._connection.transaction():
            for row in rows:
                self._insert(table, row)

    def create(self, workflow: Row, pointers: Sequence[Row]) -> None:
        """Insert a new workflow with its pointers."""
        with self._connection.transaction():
            self._insert("workflows", workflow)
            self._insert_pointers(workflow["id"], pointers)

    def save(self, workflow: Row, pointers: Sequence[Row]) -> None:
        """Update all columns of the workflow unconditionally, and replace all its pointers."""
        columns = LAYOUT["workflows"].split()[1:]
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns)
        update = sql.SQL("UPDATE wfc.workflows SET {} WHERE id = %s").format(assignments)
        with self._connection.transaction():
            self._connection.execute(update, [*_values(workflow, columns), workflow["id"]])
            self._connection.execute("DELETE FROM wfc.execution_pointers WHERE workflow_id = %s", [workflow["id"]])
            self._insert_pointers(workflow["id"], pointers)

    def load(self, id: str) -> tuple[Row, list[Row]]:
        """The row of the workflow and the rows of its pointers."""
        return self.row("workflows", id=id), self.rows("execution_pointers", workflow_id=id)

    def schedule(self, name: str, data: str, execute_time: int) -> None:
        """Insert the command, or update its due time."""
        self._connection.execute(SCHEDULE, [name, data, execute_time, execute_time])

    def due(self, until: int) -> list[Row]:
        """The commands that are due."""
        chosen = "SELECT * FROM wfc.scheduled_commands WHERE execute_time <= %s"
        return self._connection.execute(chosen, [until]).fetchall()

    def delete_due(self, until: int) -> None:
        """Delete all commands that are due, whether they were handled or not."""
        self._connection.execute("DELETE FROM wfc.scheduled_commands WHERE execute_time <= %s", [until])

    def next_number(self, definition_id: str) -> int:
        """The next number of the definition's sequence."""
        row = self._connection.execute(NEXT_NUMBER, [definition_id]).fetchone()
        assert row is not None
        return int(row["next_num"])

    def take_token(self, id: str, token: str, worker: str, expiry: Any) -> bool:
        """Set the token of the subscription, if it has none."""
        return self._connection.execute(TAKE_TOKEN, [token, worker, expiry, id]).rowcount == 1

    def clear_token(self, id: str, token: str) -> bool:
        """Clear the token of the subscription."""
        return self._connection.execute(CLEAR_TOKEN, [id, token]).rowcount == 1

    def run(self, statement: str, *values: Any) -> None:
        """Execute any other statement."""
        self._connection.execute(statement.encode(), values)

    def query(self, statement: str, *values: Any) -> list[Row]:
        """Execute any other statement and return its rows."""
        return self._connection.execute(statement.encode(), values).fetchall()

    def transaction(self) -> AbstractContextManager[object]:
        """A transaction for several calls."""
        return self._connection.transaction()

    def _insert_pointers(self, workflow_id: str, pointers: Sequence[Row]) -> None:
        for pointer in pointers:
            self._insert("execution_pointers", pointer | {"workflow_id": workflow_id})

    def _insert(self, table: str, row: Row) -> None:
        columns = LAYOUT[table].split()
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        placeholders = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        insert = sql.SQL("INSERT INTO wfc.{} ({}) VALUES ({})").format(sql.Identifier(table), names, placeholders)
        self._connection.execute(insert, _values(row, columns))


def _values(row: Row, columns: Sequence[str]) -> list[Any]:
    values = (row.get(column) for column in columns)
    return [
        Jsonb(value) if column in JSON_COLUMNS and value is not None else value
        for column, value in zip(columns, values, strict=True)
    ]


@contextmanager
def rust_host(url: str) -> Iterator[RustHost]:
    """A Rust host with its own connection."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield RustHost(connection)


def workflow_row(id: str, **values: Any) -> Row:
    """The row of a new workflow, as a Rust host stores it."""
    return {
        "id": id,
        "name": id,
        "definition_id": "order",
        "version": 1,
        "status": "Runnable",
        "data": {"order": 1},
        "next_execution": 0,
        **values,
    }


def pointer_row(id: str, **values: Any) -> Row:
    """The row of a new pointer, as a Rust host stores it."""
    return {
        "id": id,
        "step_id": 0,
        "active": True,
        "status": "Pending",
        "event_published": False,
        "retry_count": 0,
        "children": [],
        "scope": [],
        "extension_attributes": {},
        **values,
    }


def ids_of(instance: WorkflowInstance) -> list[str]:
    """The ids of the pointers, in order."""
    return [it.id for it in instance.execution_pointers]


def rust_workflow(rust: RustHost, *pointer_ids: str, id: str = "rust") -> str:
    """Create a workflow as a Rust host, and return its id."""
    rust.create(workflow_row(id, create_time=at(0)), [pointer_row(it) for it in pointer_ids])
    return id
