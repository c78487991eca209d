"""`upgrade` repairs what `check` finds, and `check` prints SQL that repairs it."""

import psycopg
import pytest
from sqlalchemy import make_url

from tests.cli.running import SECRET, Command, error_line, succeeded
from tests.conftest import Sql
from tests.migrations.stores import MANY_EVENTS, differences, layout_of
from tests.migrations.test_store_check import DIFFERENCES
from wfe_postgres.orm import Base
from wfe_postgres.schema import HEAD

UP_TO_DATE = f"The store in schema wfc is up to date, at revision {HEAD}."
DIFFERS = f"The store in schema wfc differs from what it should be, at revision {HEAD}."
NOT_AUTOMATIC = (
    "ALTER TABLE wfc.events ALTER event_key DROP NOT NULL",
    "ALTER TABLE wfc.events ALTER event_key TYPE varchar(9)",
    "ALTER TABLE wfc.workflows ADD COLUMN tenant text",
    "ALTER TABLE wfc.workflows ADD CHECK (version > 0)",
    "CREATE UNIQUE INDEX one ON wfc.events (event_name)",
    "ALTER TABLE wfc.events SET UNLOGGED",
    "ALTER TABLE wfc.events ENABLE ROW LEVEL SECURITY",
)
LOST = ("ALTER TABLE wfc.workflows DROP COLUMN description", "DROP TABLE wfc.definition_sequences")
MORE = (
    "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_pkey",
    "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_workflow_id_fkey",
    "DROP SEQUENCE wfc.execution_errors_id_seq CASCADE",
    "DROP SEQUENCE wfc.work_queue_position_seq CASCADE",
    "DROP SEQUENCE wfc.lock_tokens",
    "ALTER SEQUENCE wfc.lock_tokens INCREMENT 2",
    "DROP FUNCTION wfc.mark_command_rescheduled() CASCADE",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wfc.idx_errors_nonce'::regclass",
    "ALTER TABLE wfc.events ALTER event_time SET DEFAULT now()",
)
NUMBERED = {
    "execution_errors.id": "error_time, workflow_id, execution_pointer_id, message) VALUES (41, now(), 'w', 'p', 'no'",
    "scheduled_commands.id": "command_name, data, execute_time) VALUES (41, 'ProcessWorkflow', 'w', 5",
    "lifecycle_payloads.id": "payload) VALUES (41, '{}'",
    "work_queue.position": "queue, id) VALUES (41, 'Workflow', 'w'",
}
ROWS = """
    INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time)
      VALUES ('w', 'w', 'order', 1, 'Runnable', now());
    INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('p', 'w', 0, 'Pending');
    INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message)
      VALUES (now(), 'w', 'p', 'wrong');
    INSERT INTO wfc.events (id, event_name, event_key, event_time) VALUES ('e', 'n', 'k', now());
"""


@pytest.mark.parametrize("change", sorted({*DIFFERENCES, *MORE} - {*NOT_AUTOMATIC, *LOST}))
def test_upgrade_repairs_and_says_so(command: Command, database_url: str, sql: Sql, change: str) -> None:
    sql(ROWS)
    layout = layout_of(database_url)
    sql(change)
    things = [it.partition(" is ")[0] for it in differences(database_url)]
    assert things
    result = succeeded(command("upgrade", "--url", database_url))
    repaired, last = result.lines[:-1], result.lines[-1]
    assert all(any(line.startswith(f"Repaired: {thing}") for line in repaired) for thing in things)
    assert last == UP_TO_DATE
    assert (differences(database_url), layout_of(database_url)) == ([], layout)
    assert succeeded(command("upgrade", "--url", database_url)).lines == [UP_TO_DATE]


@pytest.mark.parametrize("change", sorted({*DIFFERENCES, *MORE} - {*LOST}))
def test_sql_that_check_prints_repairs(command: Command, database_url: str, sql: Sql, change: str) -> None:
    sql(ROWS)
    layout = layout_of(database_url)
    sql(change)
    for _ in range(3):
        result = command("check", "--url", database_url)
        for line in result.lines:
            if line.startswith("  repair: "):
                statements = line.removeprefix("  repair: ").removeprefix("`wfe-postgres upgrade`, or ")
                for statement in statements.split("; "):
                    sql(statement)
    assert (differences(database_url), layout_of(database_url)) == ([], layout)


@pytest.mark.parametrize("change", NOT_AUTOMATIC)
def test_upgrade_leaves_what_could_lose_data_or_lock_for_long(
    command: Command, database_url: str, sql: Sql, change: str
) -> None:
    sql(change)
    layout = layout_of(database_url)
    result = command("upgrade", "--url", database_url)
    assert (result.code, result.reported_errors) == (1, "")
    assert result.lines[:-1] == command("check", "--url", database_url).lines
    assert result.lines[1].startswith("  repair: ")
    assert result.lines[-1] == DIFFERS
    assert layout_of(database_url) == layout


def test_role_that_may_not_repair_is_told_so(command: Command, tcp_url: str) -> None:
    with psycopg.connect(tcp_url, autocommit=True) as owner:
        succeeded(command("upgrade", "--url", tcp_url))
        owner.execute(
            f"CREATE ROLE wfe_reader LOGIN PASSWORD '{SECRET}'; GRANT USAGE ON SCHEMA wfc TO wfe_reader;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA wfc TO wfe_reader; DROP INDEX wfc.idx_errors_workflow"
        )
    url = make_url(tcp_url).set(username="wfe_reader", password=SECRET).render_as_string(hide_password=False)
    line = error_line(command("upgrade", "--url", url), 2)
    assert line == (
        "the store in schema wfc differs from what it should be: run `wfe-postgres upgrade`, as a role that owns it "
        "(this one may not)"
    )
    succeeded(command("upgrade", "--url", tcp_url))
    assert succeeded(command("upgrade", "--url", url)).lines == [UP_TO_DATE]


def test_repair_of_a_store_in_another_schema_names_it(command: Command, database_url: str, sql: Sql) -> None:
    succeeded(command("upgrade", "--url", database_url, "--schema", "tenant"))
    sql("DROP INDEX tenant.idx_errors_workflow")
    result = command("check", "--url", database_url, "--schema", "tenant")
    assert result.lines[1].startswith("  repair: `wfe-postgres upgrade --schema tenant`, or DROP INDEX ")


def test_upgrade_of_store_with_a_missing_table_fails(command: Command, database_url: str, sql: Sql) -> None:
    """Its rows are in no index: an empty table in its place would hide the loss."""
    sql("DROP TABLE wfc.definition_sequences")
    line = error_line(command("upgrade", "--url", database_url), 2)
    assert "tables are missing (definition_sequences): restore them from a backup" in line
    assert "table definition_sequences is missing" in command("check", "--url", database_url).lines


def test_upgrade_of_store_without_tables_creates_it(command: Command, database_url: str, sql: Sql) -> None:
    sql(f"DROP TABLE {', '.join(f'wfc.{table.name}' for table in Base.metadata.sorted_tables)}")
    assert error_line(command("check", "--url", database_url), 2).startswith("there is no store in schema wfc: run")
    assert succeeded(command("upgrade", "--url", database_url)).lines == [UP_TO_DATE]
    assert succeeded(command("check", "--url", database_url))


@pytest.mark.parametrize("column", NUMBERED)
def test_sequence_behind_its_table_is_reported_and_repaired(
    command: Command, database_url: str, sql: Sql, column: str
) -> None:
    """As after a logical replication, which copies rows and no sequences."""
    table, name = column.split(".")
    sequence = f"{table}_{name}_seq"
    sql(f"INSERT INTO wfc.{table} ({name}, {NUMBERED[column]})")
    line, repair = command("check", "--url", database_url).lines
    assert line == f"number of sequence {sequence} is «0», should be «at least 41»"
    assert repair.startswith(f"  repair: `wfe-postgres upgrade`, or SELECT setval('wfc.{sequence}', 41);")
    assert succeeded(command("upgrade", "--url", database_url)).lines[0] == f"Repaired: number of sequence {sequence}"
    assert sql(f"SELECT nextval('wfc.{sequence}')") == [(42,)]


def test_sequence_that_goes_on_with_negative_numbers_is_no_difference(database_url: str, sql: Sql) -> None:
    """As the page on operations advises when it has come to its end; unless it would give a number again."""
    errors = "INSERT INTO wfc.execution_errors (id, error_time, workflow_id, execution_pointer_id, message) VALUES"
    sql(f"{errors} (2147483647, now(), 'w', 'p', 'wrong')")
    sql("ALTER SEQUENCE wfc.execution_errors_id_seq MINVALUE -2147483648 RESTART WITH -2147483648")
    assert differences(database_url) == []
    sql(f"{errors} (DEFAULT, now(), 'w', 'p', 'wrong')")
    assert differences(database_url) == []
    sql(f"{errors} (-2147483640, now(), 'w', 'p', 'wrong')")
    [line] = differences(database_url)
    assert line == "number of sequence execution_errors_id_seq is «-2147483648», should be «at least -2147483640»"


def test_upgrade_goes_on_where_an_earlier_one_stopped(command: Command, database_url: str, sql: Sql) -> None:
    sql(MANY_EVENTS)
    sql("UPDATE wfc.alembic_version SET version_num = '0005'")
    sql("ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_pkey, ADD PRIMARY KEY (id)")
    sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wfc.idx_events_unprocessed'::regclass")
    result = succeeded(command("upgrade", "--url", database_url))
    assert result.lines == [
        "An earlier upgrade stopped after revision 0005: index idx_events_unprocessed is built again.",
        UP_TO_DATE,
    ]
    assert differences(database_url) == []


def test_index_that_cannot_be_built_does_not_stop_other_repairs(command: Command, database_url: str, sql: Sql) -> None:
    sql("DROP INDEX wfc.idx_errors_nonce")
    sql("DROP INDEX wfc.idx_events_event_time")
    sql(
        "INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message, nonce)"
        " SELECT now(), 'w', 'p', 'm', 1 FROM generate_series(1, 2)"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        sql("CREATE UNIQUE INDEX CONCURRENTLY idx_errors_nonce ON wfc.execution_errors (nonce)")
    result = command("upgrade", "--url", database_url)
    assert result.code == 1
    assert result.lines[0] == "Repaired: index idx_events_event_time was missing"
    assert result.lines[1].startswith("index idx_errors_nonce is ")
    assert result.lines[-1] == DIFFERS
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: index idx_errors_nonce cannot be repaired: the database refused ")
    sql("DELETE FROM wfc.execution_errors")
    assert succeeded(command("upgrade", "--url", database_url)).lines == [
        "Repaired: index idx_errors_nonce",
        UP_TO_DATE,
    ]
