"""The script of `alembic upgrade head --sql` creates the same store as the command."""

import re

import psycopg
import pytest
from alembic import command

from tests.conftest import Sql
from tests.migrations.printed import apply, printed, run_psql
from tests.migrations.stores import (
    alembic,
    differences,
    layout_of,
    make_rust_store,
    revision_of,
    rows_of,
    upgrade_store,
)
from wfe_postgres.schema import HEAD, REVISIONS, upgrade_script


@pytest.mark.parametrize("schema", ["wfc", "engine"])
def test_script_on_empty_database_creates_the_store(empty_database_url: str, schema: str) -> None:
    assert apply(empty_database_url, printed(command.upgrade, "head", schema)) == ""
    assert (revision_of(empty_database_url, schema), differences(empty_database_url, schema)) == (HEAD, [])


def test_script_on_rust_store_upgrades_it(empty_database_url: str) -> None:
    make_rust_store(empty_database_url, "ALTER TABLE wfc.workflows DROP COLUMN name")
    rows = rows_of(empty_database_url)
    assert apply(empty_database_url, printed(command.upgrade, "head")) == ""
    assert (differences(empty_database_url), rows_of(empty_database_url, rows)) == ([], rows)


def test_script_in_two_steps_creates_the_store(empty_database_url: str) -> None:
    assert apply(empty_database_url, printed(command.upgrade, "0001")) == ""
    assert revision_of(empty_database_url) == "0001"
    assert apply(empty_database_url, printed(command.upgrade, "0001:head")) == ""
    assert differences(empty_database_url) == []


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_script_runs_from_every_revision_and_a_second_time(
    empty_database_url: str, sql: Sql, revision: str | None
) -> None:
    make_rust_store(empty_database_url)
    if revision:
        alembic(empty_database_url, command.upgrade, revision)
    rows = rows_of(empty_database_url)
    for _ in range(2):
        assert apply(empty_database_url, upgrade_script()) == ""
        assert (revision_of(empty_database_url), differences(empty_database_url)) == (HEAD, [])
        assert rows_of(empty_database_url, rows) == rows
        sql("UPDATE wfc.workflows SET version = version")  # the second run has something to lose
        rows = rows_of(empty_database_url)


@pytest.mark.parametrize("revision", REVISIONS)
def test_script_from_a_revision_holds_only_what_follows(empty_database_url: str, revision: str) -> None:
    alembic(empty_database_url, command.upgrade, revision)
    script = upgrade_script(start=revision)
    assert script.count("-- Running upgrade") == len(REVISIONS) - 1 - REVISIONS.index(revision)
    for _ in range(2):
        assert apply(empty_database_url, script) == ""
        assert (revision_of(empty_database_url), differences(empty_database_url)) == (HEAD, [])


def test_script_from_another_revision_fails_and_changes_nothing(empty_database_url: str) -> None:
    script = upgrade_script(start="0005")
    assert "does not exist" in apply(empty_database_url, script)
    alembic(empty_database_url, command.upgrade, "0003")
    layout = layout_of(empty_database_url)
    assert "not from the revision of this one" in apply(empty_database_url, script)
    assert (layout_of(empty_database_url), revision_of(empty_database_url)) == (layout, "0003")


def test_script_leaves_a_newer_store_alone(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    sql("UPDATE wfc.alembic_version SET version_num = '0999'")
    assert apply(empty_database_url, upgrade_script()) == ""
    assert revision_of(empty_database_url) == "0999"


def test_script_prints_nothing_in_psql(empty_database_url: str) -> None:
    """Neither results nor notices, without any option of psql."""
    for _ in range(2):
        assert run_psql(empty_database_url, upgrade_script()).stdout == ""


def test_script_that_stopped_goes_on(empty_database_url: str) -> None:
    """It stops at a table that is in use, and psql stops, too."""
    make_rust_store(empty_database_url)
    with psycopg.connect(empty_database_url) as other:
        other.execute("SELECT count(*) FROM wfc.workflows")
        done = run_psql(empty_database_url, upgrade_script())
    assert (done.returncode, done.stderr.count("ERROR")) == (3, 1)
    assert "lock timeout" in done.stderr
    assert revision_of(empty_database_url) == "0002"
    assert apply(empty_database_url, upgrade_script()) == ""
    assert differences(empty_database_url) == []


def test_script_on_incompatible_layout_stops_without_changes(empty_database_url: str) -> None:
    make_rust_store(empty_database_url, "ALTER TABLE wfc.events ADD COLUMN tenant INT")
    layout = layout_of(empty_database_url)
    error = apply(empty_database_url, printed(command.upgrade, "head"))
    assert "column events.tenant is unknown: integer" in error
    assert (layout_of(empty_database_url), revision_of(empty_database_url)) == (layout, None)


def test_downgrade_script_is_one_transaction(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    sql("INSERT INTO wfc.definition_sequences VALUES ('order', 1)")
    script = printed(command.downgrade, "head:base")
    assert "these hold rows: definition_sequences" in apply(empty_database_url, script)
    assert differences(empty_database_url) == []
    sql("DELETE FROM wfc.definition_sequences")
    assert apply(empty_database_url, script) == ""
    assert layout_of(empty_database_url) == {}


def test_each_transaction_sets_lock_timeout_and_search_path() -> None:
    script = printed(command.upgrade, "head")
    begins = "\nBEGIN;\n\nSET LOCAL search_path = pg_catalog;\n\nSET LOCAL lock_timeout = '2s';\n"
    builds = len(re.findall(r"COMMIT;\n\nDO \$prepare\$", script))  # of indexes, between two transactions
    assert builds > 0
    assert script.count("\nBEGIN;\n") == script.count(begins) == script.count("\nCOMMIT;\n") == len(REVISIONS) + builds
    down = printed(command.downgrade, "head:base")
    assert f"\n{down}".count(begins) == down.count("COMMIT;") == 1


def test_script_generation_needs_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WFE_DATABASE_URL", raising=False)
    assert "CREATE TABLE IF NOT EXISTS wfc.workflows" in printed(command.upgrade, "head")
