"""`alembic upgrade head --sql`: what a DBA runs by hand gives the same store."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from tests.conftest import Sql
from tests.migrations.stores import (
    ROOT,
    differences,
    layout_of,
    make_rust_store,
    revision_of,
    rows_of,
    upgrade_store,
)
from wfe_postgres.embedded.binaries import find_binaries
from wfe_postgres.schema import HEAD, REVISIONS


@pytest.fixture(scope="module")
def psql() -> Path:
    beside = find_binaries() / "psql"
    on_path = shutil.which("psql")
    if not beside.is_file() and on_path is None:
        pytest.skip("there is no psql here")
    return beside if beside.is_file() else Path(str(on_path))


def printed(run_command: Callable[..., object], revisions: str, schema: str = "wfc") -> str:
    out = io.StringIO()
    config = Config(str(ROOT / "alembic.ini"), output_buffer=out, attributes={"schema": schema})
    run_command(config, revisions, sql=True)
    return out.getvalue()


def apply(psql: Path, url: str, script: str) -> str:
    """What psql complained of; it stops at the first error."""
    program = [str(psql), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={url}", "--file=-"]
    environment = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
    done = subprocess.run(
        program, input=script, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) == (done.stderr == "")
    return str(done.stderr)


@pytest.mark.parametrize("schema", ["wfc", "engine"])
def test_on_an_empty_database(psql: Path, empty_database_url: str, schema: str) -> None:
    assert apply(psql, empty_database_url, printed(command.upgrade, "head", schema)) == ""
    assert (revision_of(empty_database_url, schema), differences(empty_database_url, schema)) == (HEAD, [])


def test_on_a_rust_store(psql: Path, empty_database_url: str) -> None:
    make_rust_store(empty_database_url, "ALTER TABLE wfc.workflows DROP COLUMN name")
    rows = rows_of(empty_database_url)
    assert apply(psql, empty_database_url, printed(command.upgrade, "head")) == ""
    assert (differences(empty_database_url), rows_of(empty_database_url, rows)) == ([], rows)


def test_in_two_steps(psql: Path, empty_database_url: str) -> None:
    assert apply(psql, empty_database_url, printed(command.upgrade, "0001")) == ""
    assert revision_of(empty_database_url) == "0001"
    assert apply(psql, empty_database_url, printed(command.upgrade, "0001:head")) == ""
    assert differences(empty_database_url) == []


def test_on_something_else_it_stops_and_leaves_it_alone(psql: Path, empty_database_url: str) -> None:
    make_rust_store(empty_database_url, "ALTER TABLE wfc.events ADD COLUMN tenant INT")
    layout = layout_of(empty_database_url)
    complaint = apply(psql, empty_database_url, printed(command.upgrade, "head"))
    assert "column events.tenant is unknown: integer" in complaint
    assert (layout_of(empty_database_url), revision_of(empty_database_url)) == (layout, None)


def test_down_in_one_transaction(psql: Path, empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url)
    sql("INSERT INTO wfc.definition_sequences VALUES ('order', 1)")
    script = printed(command.downgrade, "head:base")
    assert "these hold rows: definition_sequences" in apply(psql, empty_database_url, script)
    assert differences(empty_database_url) == []
    sql("DELETE FROM wfc.definition_sequences")
    assert apply(psql, empty_database_url, script) == ""
    assert layout_of(empty_database_url) == {}


def test_every_transaction_gives_up_after_two_seconds_and_trusts_no_search_path() -> None:
    script = printed(command.upgrade, "head")
    begins = "\nBEGIN;\n\nSET LOCAL search_path = pg_catalog;\n\nSET LOCAL lock_timeout = '2s';\n"
    assert script.count("\nBEGIN;\n") == script.count(begins) == script.count("\nCOMMIT;\n") == len(REVISIONS) + 1
    down = printed(command.downgrade, "head:base")
    assert f"\n{down}".count(begins) == down.count("COMMIT;") == 1


def test_no_url_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WFE_DATABASE_URL", raising=False)
    assert "CREATE TABLE IF NOT EXISTS wfc.workflows" in printed(command.upgrade, "head")
