"""`check` reports every difference, including those that Alembic does not compare."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from alembic import command
from sqlalchemy import Connection

from tests.conftest import Sql
from tests.migrations.stores import EMPTY, ROOT, alembic, differences, engine_for, layout_of, upgrade_store
from wfe_postgres import StoreNotReadyError
from wfe_postgres import schema as store

DIFFERENCES = {
    "DROP INDEX wfc.idx_workflows_runnable": "index idx_workflows_runnable is missing",
    "DROP INDEX wfc.idx_workflows_runnable; CREATE INDEX idx_workflows_runnable ON wfc.workflows (next_execution, id)"
    " WHERE status = 'Suspended'": "index idx_workflows_runnable is «CREATE INDEX idx_workflows_runnable ON "
    "wfc.workflows USING btree (next_execution, id) WHERE (status = 'Suspended'::text)», should be «",
    "DROP INDEX wfc.idx_errors_nonce; CREATE INDEX idx_errors_nonce ON wfc.execution_errors (nonce)": "index "
    "idx_errors_nonce is «",
    "ALTER TABLE wfc.events ALTER is_processed SET DEFAULT true": "column events.is_processed is "
    "«boolean DEFAULT true», should be «boolean DEFAULT false»",
    "ALTER TABLE wfc.workflows ALTER revision SET DEFAULT 0": "column workflows.revision is «",
    "ALTER TABLE wfc.execution_pointers ALTER position DROP DEFAULT": "column execution_pointers.position is «",
    "ALTER TABLE wfc.events ALTER event_key DROP NOT NULL": "column events.event_key is «text», should be «text NOT",
    "ALTER TABLE wfc.events ALTER event_key TYPE varchar(9)": "column events.event_key is «character varying(9)",
    "ALTER TABLE wfc.workflows DROP COLUMN description": "column workflows.description is missing",
    "ALTER TABLE wfc.workflows ADD COLUMN tenant text": "column workflows.tenant does not belong here: «text»",
    "ALTER TABLE wfc.workflows DISABLE TRIGGER workflows_stamp_revision": "trigger workflows_stamp_revision of "
    "workflows is «",
    "DROP TRIGGER scheduled_commands_mark_rescheduled ON wfc.scheduled_commands": "trigger "
    "scheduled_commands_mark_rescheduled of scheduled_commands is missing",
    "CREATE OR REPLACE TRIGGER workflows_stamp_revision BEFORE UPDATE ON wfc.workflows FOR EACH ROW"
    " WHEN (NEW.revision <> OLD.revision) EXECUTE FUNCTION wfc.stamp_workflow_revision()": "trigger "
    "workflows_stamp_revision of workflows is «",
    "CREATE OR REPLACE FUNCTION wfc.stamp_workflow_revision() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END'": "function stamp_workflow_revision() is «",
    "ALTER TABLE wfc.workflows DROP CONSTRAINT workflows_name_key": "constraint workflows_name_key of workflows is "
    "missing",
    "ALTER TABLE wfc.workflows ADD CHECK (version > 0)": "constraint workflows_version_check of workflows does not "
    "belong here: «CHECK ((version > 0))»",
    "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_pkey, ADD PRIMARY KEY (id)": "constraint "
    "execution_pointers_pkey of execution_pointers is «PRIMARY KEY (id)», should be «PRIMARY KEY (id, workflow_id)»",
    "CREATE UNIQUE INDEX one ON wfc.events (event_name)": "index one does not belong here: «CREATE UNIQUE INDEX one",
    "DROP TABLE wfc.definition_sequences": "table definition_sequences is missing",
    "ALTER TABLE wfc.events SET UNLOGGED": "table events is «table (unlogged)», should be «table»",
    "ALTER TABLE wfc.events ENABLE ROW LEVEL SECURITY": "table events is «table (with row security)», should be",
    "ALTER SEQUENCE wfc.execution_pointers_position_seq CYCLE": "sequence execution_pointers_position_seq is «",
    "ALTER SEQUENCE wfc.execution_pointers_position_seq OWNED BY NONE": "sequence execution_pointers_position_seq is «",
}


@pytest.fixture(scope="module")
def connection(emptied_database: str) -> Iterator[Connection]:
    """A connection to a migrated database; each test rolls back its changes."""
    with psycopg.connect(emptied_database) as admin:
        admin.execute(EMPTY)
    upgrade_store(emptied_database)
    with engine_for(emptied_database) as engine, engine.connect() as connection:
        yield connection


@pytest.mark.parametrize("change", DIFFERENCES)
def test_changed_object_is_reported(connection: Connection, change: str) -> None:
    with connection.begin() as transaction:
        connection.exec_driver_sql(change)
        found = store.differences(connection)
        transaction.rollback()
    assert [it for it in found if it.startswith(DIFFERENCES[change])], found
    assert len(found) == 1 or change.startswith("DROP TABLE")
    with connection.begin():
        assert store.differences(connection) == []


def test_invalid_index_is_reported(database_url: str, sql: Sql) -> None:
    sql("DROP INDEX wfc.idx_errors_nonce")
    sql(
        "INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message, nonce)"
        " SELECT now(), 'w', 'p', 'm', 1 FROM generate_series(1, 2)"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        sql("CREATE UNIQUE INDEX CONCURRENTLY idx_errors_nonce ON wfc.execution_errors (nonce)")
    assert [it.partition(" (invalid)»")[1] for it in differences(database_url)] == [" (invalid)»"]


def test_new_store_equals_catalogue_json(database_url: str) -> None:
    """Update `migrations/catalogue.json` after a change of the head schema revision."""
    written = json.loads((ROOT / "migrations/catalogue.json").read_text(encoding="utf-8"))
    assert layout_of(database_url) == {name: it.replace("{schema}", "wfc") for name, it in written.items()}
    assert differences(database_url) == []


def test_additional_objects_are_not_reported(database_url: str, sql: Sql) -> None:
    sql("CREATE INDEX dba ON wfc.workflows (description)")
    sql("CREATE TABLE wfc.audit (id INT PRIMARY KEY, workflow_id TEXT REFERENCES wfc.workflows)")
    sql("CREATE FUNCTION wfc.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    sql("CREATE TRIGGER note AFTER UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION wfc.note()")
    sql("CREATE SEQUENCE wfc.audit_numbers")
    assert differences(database_url) == []


def test_missing_older_or_newer_store_raises_error_with_instructions(database_url: str, sql: Sql) -> None:
    with pytest.raises(StoreNotReadyError, match="no store in schema other: run `wfe-postgres upgrade`"):
        differences(database_url, "other")
    alembic(database_url, command.downgrade, "0003")
    with pytest.raises(StoreNotReadyError, match=r"revision 0003, older than .*: run `wfe-postgres upgrade`"):
        differences(database_url)
    sql("UPDATE wfc.alembic_version SET version_num = '0999'")
    with pytest.raises(StoreNotReadyError, match=r"revision 0999, newer than .*: update the library"):
        differences(database_url)
