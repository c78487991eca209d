"""A downgrade loses no data: it is either rejected or done completely."""

import pytest
from alembic import command
from alembic.util import CommandError

from tests.conftest import Sql
from tests.migrations.stores import (
    RUST_ROWS,
    TABLES,
    alembic,
    differences,
    layout_of,
    make_rust_store,
    revision_of,
    rows_of,
    upgrade_store,
)
from wfe_postgres.schema import HEAD

SHARED_ID = (
    "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('p1', 'w2', 0, 'Pending'),"
    " ('p2', 'w2', 0, 'Pending')"
)
ONE_ROW = {
    "workflows": "(id, name, definition_id, version, status, create_time) VALUES ('w', 'w', 'd', 1, 'Complete', now())",
    "events": "(id, event_name, event_key, event_time) VALUES ('e', 'n', 'k', now())",
    "event_subscriptions": "(id, workflow_id, step_id, execution_pointer_id, event_name, event_key, subscribe_as_of)"
    " VALUES ('s', 'w', 0, 'p', 'n', 'k', now())",
    "execution_errors": "(error_time, workflow_id, execution_pointer_id, message) VALUES (now(), 'w', 'p', 'm')",
    "scheduled_commands": "(command_name, data, execute_time) VALUES ('ProcessEvent', 'e', 0)",
    "definition_sequences": "(definition_id, next_num) VALUES ('d', 1)",
}


def test_downgrade_to_rust_layout_keeps_all_rows(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    layout, rows = layout_of(empty_database_url), rows_of(empty_database_url)
    upgrade_store(empty_database_url)
    sql("UPDATE wfc.scheduled_commands SET claim = 1, claimed_until = now()")
    alembic(empty_database_url, command.downgrade, "0001")
    assert (layout_of(empty_database_url), rows_of(empty_database_url)) == (layout, rows)
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []


def test_downgrade_with_shared_pointer_ids_is_rejected_without_changes(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    upgrade_store(empty_database_url)
    sql(SHARED_ID)
    layout, rows = layout_of(empty_database_url), rows_of(empty_database_url)
    with pytest.raises(CommandError, match=r"in execution_pointers 2 of them belong to more than one workflow"):
        alembic(empty_database_url, command.downgrade, "0001")
    assert revision_of(empty_database_url) == HEAD
    assert (layout_of(empty_database_url), rows_of(empty_database_url)) == (layout, rows)
    assert differences(empty_database_url) == []


@pytest.mark.parametrize(
    ("start", "target"), [(HEAD, "base"), (HEAD, f"-{int(HEAD)}"), ("0003", "base"), ("0001", "base")]
)
def test_downgrade_to_base_with_rows_is_rejected(empty_database_url: str, sql: Sql, start: str, target: str) -> None:
    alembic(empty_database_url, command.upgrade, start)
    sql(RUST_ROWS)
    sql("DELETE FROM wfc.events; DELETE FROM wfc.definition_sequences")
    layout, rows = layout_of(empty_database_url), rows_of(empty_database_url)
    expected = (
        "downgrade base drops the tables only when they are empty; these hold rows: "
        "workflows, execution_pointers, event_subscriptions, execution_errors, scheduled_commands"
    )
    with pytest.raises(CommandError, match=f"^{expected}$"):
        alembic(empty_database_url, command.downgrade, target)
    assert revision_of(empty_database_url) == start
    assert (layout_of(empty_database_url), rows_of(empty_database_url)) == (layout, rows)


def test_downgrade_to_base_with_one_row_in_any_table_is_rejected(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    for table, row in ONE_ROW.items():
        sql(f"INSERT INTO wfc.{table} {row}")
        with pytest.raises(CommandError, match=f"these hold rows: {table}$"):
            alembic(empty_database_url, command.downgrade, "base")
        assert revision_of(empty_database_url) == HEAD
        sql(f"DELETE FROM wfc.{table}")


def test_downgrade_to_base_keeps_schema_and_other_objects(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    sql("CREATE TABLE wfc.audit (id INT)")
    alembic(empty_database_url, command.downgrade, "base")
    assert sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind <> 'i' ORDER BY 1"
    ) == [
        ("alembic_version",),
        ("audit",),
    ]
    assert sql("SELECT * FROM wfc.alembic_version") == []
    assert sql("SELECT proname FROM pg_proc WHERE pronamespace = 'wfc'::regnamespace") == []
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []


def test_downgrade_to_base_with_dependent_view_fails_without_changes(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    sql("CREATE VIEW public.names AS SELECT name FROM wfc.workflows")
    layout = layout_of(empty_database_url)
    with pytest.raises(Exception, match="depends on"):
        alembic(empty_database_url, command.downgrade, "base")
    assert revision_of(empty_database_url) == HEAD
    assert layout_of(empty_database_url) == layout


def test_downgrade_locks_all_tables_before_checking_rows(empty_database_url: str, sql: Sql) -> None:
    """Otherwise a row could be inserted between check and drop. An event trigger records the locks held."""
    alembic(empty_database_url, command.upgrade, "head")
    if sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != [(True,)]:
        pytest.skip("only a superuser may create an event trigger")
    sql("CREATE TABLE public.seen (name TEXT)")
    sql(
        "CREATE FUNCTION public.record_locks() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.seen SELECT relation::regclass::text FROM pg_locks"
        " WHERE mode = 'AccessExclusiveLock' AND pid = pg_backend_pid()"
        " AND relation IS NOT NULL; END $$"
    )
    sql("CREATE EVENT TRIGGER record_locks ON ddl_command_start EXECUTE FUNCTION public.record_locks()")
    try:
        alembic(empty_database_url, command.downgrade, "0005")
    finally:
        sql("DROP EVENT TRIGGER record_locks")
    assert {name for (name,) in sql("SELECT name FROM public.seen")} >= {f"wfc.{name}" for name in TABLES}
