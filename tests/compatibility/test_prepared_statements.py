"""A Rust host's driver, sqlx, keeps a prepared `SELECT *` for as long as a session lives."""

import psycopg
import pytest
from alembic import command

from tests.conftest import Sql
from tests.migrations.stores import alembic, make_rust_store, upgrade_store
from wfe_postgres.schema import REVISIONS

READS = {
    "workflows": "SELECT * FROM wfc.workflows WHERE id = 'w1'",
    "execution_pointers": "SELECT * FROM wfc.execution_pointers WHERE workflow_id = 'w1'",
    "scheduled_commands": "SELECT * FROM wfc.scheduled_commands WHERE execute_time < 9",
    "events": "SELECT * FROM wfc.events WHERE id = 'e1'",
    "event_subscriptions": "SELECT * FROM wfc.event_subscriptions WHERE id = 's1'",
}
NEW_COLUMNS = {"0002": {"execution_pointers"}, "0003": {"workflows"}, "0004": {"scheduled_commands"}}
"""The revisions that add a column to a table that a Rust host reads with `SELECT *`. No other may do so."""
STEPS = list(zip((None, *REVISIONS), REVISIONS, strict=False))


def failed(connection: psycopg.Connection) -> set[str]:
    """The tables that cannot be read in this session, because the result of its prepared statement has changed."""
    found = set()
    for table, statement in READS.items():
        try:
            assert connection.execute(statement.encode(), prepare=True).fetchall()
        except psycopg.errors.FeatureNotSupported:  # 0A000, "cached plan must not change result type"
            found.add(table)
    return found


@pytest.mark.parametrize(("before", "revision"), STEPS)
def test_prepared_select_fails_only_for_tables_with_new_columns(
    empty_database_url: str, before: str | None, revision: str
) -> None:
    """And works again in a new session; the same holds for the downgrade."""
    make_rust_store(empty_database_url)
    if before:
        alembic(empty_database_url, command.upgrade, before)
    with psycopg.connect(empty_database_url, autocommit=True) as session:
        assert failed(session) == set()
        alembic(empty_database_url, command.upgrade, revision)
        assert failed(session) == NEW_COLUMNS.get(revision, set())
    if before:
        with psycopg.connect(empty_database_url, autocommit=True) as session:
            assert failed(session) == set()
            alembic(empty_database_url, command.downgrade, before)
            assert failed(session) == NEW_COLUMNS.get(revision, set())
    with psycopg.connect(empty_database_url, autocommit=True) as session:
        assert failed(session) == set()


def test_no_revision_after_0006_changes_the_columns_of_these_tables(empty_database_url: str, sql: Sql) -> None:
    columns = "SELECT attrelid::regclass::text, attnum, attname, atttypid FROM pg_attribute WHERE attnum > 0"
    columns += " AND attrelid = ANY ('{wfc.workflows, wfc.execution_pointers, wfc.scheduled_commands}'::regclass[])"
    alembic(empty_database_url, command.upgrade, "0006")
    before = sql(columns)
    assert len(before) == 14 + 22 + 7
    upgrade_store(empty_database_url)
    assert sorted(sql(columns)) == sorted(before)
