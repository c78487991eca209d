"""The store of a Rust host is adopted with its rows; any other layout is rejected and not changed."""

import pytest
from alembic import command
from alembic.util import CommandError

from tests.conftest import Sql
from tests.migrations.stores import (
    RUST_LAYOUT,
    TABLES_THERE,
    alembic,
    differences,
    layout_of,
    make_rust_store,
    revision_of,
    rows_of,
    upgrade_store,
)
from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres.schema import HEAD

WITHOUT_NAME = "ALTER TABLE wfc.workflows DROP COLUMN name"
NAME_WITH_UNIQUE_INDEX = """
ALTER TABLE wfc.workflows DROP COLUMN name;
ALTER TABLE wfc.workflows ADD COLUMN name TEXT;
UPDATE wfc.workflows SET name = id;
ALTER TABLE wfc.workflows ALTER COLUMN name SET NOT NULL;
CREATE UNIQUE INDEX idx_workflows_name ON wfc.workflows (name);
"""

OLDER_LAYOUTS = {
    "the newest": "",
    "without name": WITHOUT_NAME,
    "name half added": "ALTER TABLE wfc.workflows ALTER name DROP NOT NULL; UPDATE wfc.workflows SET name = NULL",
    "name with an index": NAME_WITH_UNIQUE_INDEX,
    "name with both": "CREATE UNIQUE INDEX idx_workflows_name ON wfc.workflows (name)",
    "without root": "ALTER TABLE wfc.workflows DROP COLUMN root_workflow_id",
    "without heartbeat": "ALTER TABLE wfc.workflows DROP COLUMN last_heartbeat_at",
    "without sequences": "DROP TABLE wfc.definition_sequences",
    "without indexes": "DROP INDEX wfc.idx_events_event_time, wfc.idx_scheduled_commands_execute_time",
    "the oldest": WITHOUT_NAME
    + "; ALTER TABLE wfc.workflows DROP COLUMN root_workflow_id, DROP COLUMN last_heartbeat_at;"
    "DROP TABLE wfc.definition_sequences; DROP INDEX wfc.idx_workflows_status",
    "other order of columns": "ALTER TABLE wfc.events DROP COLUMN event_key;"
    "ALTER TABLE wfc.events ADD COLUMN event_key TEXT NOT NULL DEFAULT 'k';"
    "ALTER TABLE wfc.events ALTER COLUMN event_key DROP DEFAULT;"
    "CREATE INDEX idx_events_name_key ON wfc.events (event_name, event_key)",
    "more indexes": "CREATE INDEX dba ON wfc.events ((event_data->>'x')) WHERE is_processed",
    "additional trigger": "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER audit AFTER INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION public.f()",
}
ADDITIONAL_OBJECTS = {"index dba", "index idx_workflows_name", "trigger audit of events"}


@pytest.mark.parametrize("layout", OLDER_LAYOUTS)
def test_rust_layout_is_adopted_with_its_rows(empty_database_url: str, sql: Sql, layout: str) -> None:
    url = empty_database_url
    make_rust_store(url)
    expected = layout_of(url)
    sql(OLDER_LAYOUTS[layout])
    rows = rows_of(url)

    alembic(url, command.upgrade, "0001")
    assert {name: it for name, it in layout_of(url).items() if name not in ADDITIONAL_OBJECTS} == expected
    upgrade_store(url)

    assert (revision_of(url), differences(url)) == (HEAD, [])
    for workflow in rows["workflows"]:
        if "name" in workflow:
            workflow["name"] = workflow["name"] or workflow["id"]
    assert rows_of(url, rows) == rows


def test_missing_name_column_is_filled_with_the_id(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url, WITHOUT_NAME)
    upgrade_store(empty_database_url)
    assert sql("SELECT id, name FROM wfc.workflows ORDER BY id") == [("w1", "w1"), ("w2", "w2")]


def test_sqlx_migration_tables_are_not_changed(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    query = "SELECT xmin::text, ctid::text, * FROM {0}._sqlx_migrations"
    before = [sql(query.format(schema)) for schema in ("wfc", "public")]
    upgrade_store(empty_database_url)
    alembic(empty_database_url, command.downgrade, "0001")
    sql(f"TRUNCATE {', '.join('wfc.' + name for name in rows_of(empty_database_url))}")
    alembic(empty_database_url, command.downgrade, "base")
    assert [sql(query.format(schema)) for schema in ("wfc", "public")] == before
    assert sql(TABLES_THERE + " ORDER BY 1") == [
        ("_sqlx_migrations",),
        ("alembic_version",),
    ]


def test_restart_of_rust_host_after_upgrade_changes_nothing(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    upgrade_store(empty_database_url)
    layout = layout_of(empty_database_url)
    sql(RUST_LAYOUT)
    sql("CREATE UNIQUE INDEX IF NOT EXISTS idx_workflows_name ON wfc.workflows (name)")
    added = layout_of(empty_database_url).keys() - layout.keys()
    assert added == {"index idx_workflows_name"}
    assert differences(empty_database_url) == []


INCOMPATIBLE_LAYOUTS = {
    "ALTER TABLE wfc.events DROP COLUMN is_processed CASCADE": "column events.is_processed is missing",
    "ALTER TABLE wfc.events ALTER event_key TYPE varchar(80)": "column events.event_key is "
    '"character varying(80) NOT NULL" instead of "text NOT NULL"',
    "ALTER TABLE wfc.workflows ALTER status DROP NOT NULL": 'column workflows.status is "text" instead of "text NOT',
    "ALTER TABLE wfc.workflows ALTER data SET DEFAULT '[]'": "column workflows.data is ",
    "ALTER TABLE wfc.workflows ADD tenant text": "column workflows.tenant is unknown: text",
    "ALTER TABLE wfc.workflows ADD tenant int DEFAULT 1": "column workflows.tenant is unknown: integer DEFAULT 1",
    "ALTER TABLE wfc.workflows DROP name; ALTER TABLE wfc.workflows ADD name int": 'column workflows.name is "integer"',
    "ALTER TABLE wfc.events ADD CHECK (event_key <> '')": "constraint events.events_event_key_check is unknown: CHECK",
    "ALTER TABLE wfc.events DROP CONSTRAINT events_pkey": "constraint events.events_pkey is missing",
    "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_workflow_id_fkey, "
    "ADD CONSTRAINT execution_pointers_workflow_id_fkey FOREIGN KEY (workflow_id) REFERENCES wfc.workflows "
    "ON DELETE CASCADE": "constraint execution_pointers.execution_pointers_workflow_id_fkey is ",
    "CREATE UNIQUE INDEX one ON wfc.events (event_name, event_key)": "index events.one is unknown: CREATE UNIQUE INDEX",
    "DROP INDEX wfc.idx_events_event_time; CREATE INDEX idx_events_event_time ON wfc.events (id)": "index "
    "events.idx_events_event_time is ",
    "ALTER TABLE wfc.events RENAME TO e; CREATE VIEW wfc.events AS SELECT * FROM wfc.e": 'events is "view" instead of',
}


@pytest.mark.parametrize("change", INCOMPATIBLE_LAYOUTS)
def test_incompatible_layout_is_rejected_and_not_changed(empty_database_url: str, sql: Sql, change: str) -> None:
    make_rust_store(empty_database_url, change)
    layout, rows = layout_of(empty_database_url), rows_of(empty_database_url)
    relations = sql("SELECT relname, xmin::text FROM pg_class WHERE relnamespace = 'wfc'::regnamespace ORDER BY 1")
    with pytest.raises(StoreNotReadyError) as caught:
        upgrade_store(empty_database_url)
    assert "the tables in schema wfc are not a layout of the WFE engine: " in str(caught.value)
    assert INCOMPATIBLE_LAYOUTS[change] in str(caught.value)
    assert caught.value.__context__ is None
    assert (layout_of(empty_database_url), rows_of(empty_database_url)) == (layout, rows)
    assert (
        sql("SELECT relname, xmin::text FROM pg_class WHERE relnamespace = 'wfc'::regnamespace ORDER BY 1") == relations
    )


def test_all_layout_differences_are_reported(empty_database_url: str) -> None:
    make_rust_store(
        empty_database_url, "ALTER TABLE wfc.events ADD a int; ALTER TABLE wfc.workflows ALTER status TYPE varchar"
    )
    with pytest.raises(CommandError, match=r"events\.a .*; .*workflows\.status"):
        alembic(empty_database_url, command.upgrade, "head")


def test_duplicate_workflow_names_raise_error_without_values(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(
        empty_database_url,
        "ALTER TABLE wfc.workflows DROP CONSTRAINT workflows_name_key; UPDATE wfc.workflows SET name = 'canary'",
    )
    with pytest.raises(PersistenceError) as caught:
        upgrade_store(empty_database_url)
    assert (caught.value.sqlstate, caught.value.constraint) == ("23505", "workflows_name_key")
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    assert sql("SELECT to_regclass('wfc.alembic_version')") == [(None,)]
