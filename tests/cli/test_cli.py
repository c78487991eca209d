"""Exit codes and one-line error messages of the command; no message contains a password."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
from sqlalchemy import make_url

from tests.cli.running import ARGUMENTS, SECRET, Command, error_line
from wfe_postgres.schema import HEAD, REVISIONS

Sql = Callable[..., list[tuple[object, ...]]]
SAMPLE_COMMANDS = ["check", "status", "purge"]
"""Commands that connect to the database in different ways."""


@pytest.mark.parametrize("name", ARGUMENTS)
def test_command_without_url_is_rejected(command: Command, name: str) -> None:
    line = error_line(command(name, *ARGUMENTS[name]), 2)
    assert line == "no database: pass --url postgresql://user:password@host:port/name or set WFE_DATABASE_URL"


@pytest.mark.parametrize("name", [*ARGUMENTS, "demo"])
@pytest.mark.parametrize(
    "url", [SECRET, f"mysql://wfe:{SECRET}@localhost/wfe", f"postgresql://wfe:{SECRET}@localhost:port/wfe", "://"]
)
def test_invalid_url_is_rejected_without_showing_it(command: Command, name: str, url: str) -> None:
    line = error_line(command(name, *ARGUMENTS.get(name, ()), "--url", url), 2)
    assert line == "the URL must look like postgresql://user:password@host:port/database"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_invalid_schema_name_is_rejected(command: Command, database_url: str, name: str) -> None:
    line = error_line(command(name, *ARGUMENTS.get(name, ()), "--url", database_url, "--schema", 'x"; DROP'), 2)
    assert line.startswith("a schema's name that would have to be quoted is not supported")


@pytest.mark.parametrize("name", [*SAMPLE_COMMANDS, "demo"])
def test_unreachable_server_is_reported(command: Command, name: str) -> None:
    line = error_line(command(name, *ARGUMENTS.get(name, ()), "--url", f"postgresql://wfe:{SECRET}@localhost:1/wfe"), 3)
    assert line == "cannot connect to wfe:***@localhost:1/wfe: no server answers there: is PostgreSQL running?"


def test_hosts_that_cannot_be_reached_are_named(command: Command) -> None:
    for hosts, shown in {"127.0.0.1:1,localhost:1": "127.0.0.1,localhost", "%2Fnonexistent": "/nonexistent"}.items():
        line = error_line(command("check", "--url", f"postgresql://wfe:{SECRET}@{hosts}/wfe"), 3)
        assert line == f"cannot connect to wfe:***@{shown}/wfe: no server answers there: is PostgreSQL running?"


def test_password_with_at_sign_is_not_shown(command: Command) -> None:
    line = error_line(command("check", "--url", "postgresql://wfe:begin@rest@localhost:1/wfe"), 3)
    assert line.startswith("cannot connect: ")
    assert "begin" not in line
    assert "rest" not in line


@pytest.mark.parametrize("name", [*SAMPLE_COMMANDS, "demo"])
def test_wrong_password_is_reported(command: Command, tcp_url: str, name: str) -> None:
    url = make_url(tcp_url).set(password=SECRET)
    line = error_line(command(name, *ARGUMENTS.get(name, ()), "--url", url.render_as_string(hide_password=False)), 3)
    address = f"wfe:***@127.0.0.1:{url.port}/{url.database}"
    assert line == f"cannot connect to {address}: the server rejected the user or the password"


@pytest.mark.parametrize("name", [*SAMPLE_COMMANDS, "demo"])
def test_missing_database_is_reported(command: Command, database_url: str, name: str) -> None:
    url = make_url(database_url).set(database="wfe_nowhere").render_as_string(hide_password=False)
    line = error_line(command(name, *ARGUMENTS.get(name, ()), "--url", url), 3)
    assert line.startswith("cannot connect to ")
    assert line.endswith("/wfe_nowhere: the database does not exist: create it first")


def test_upgrade_creates_missing_store(command: Command, empty_database_url: str) -> None:
    line = error_line(command("check", "--url", empty_database_url), 2)
    assert line == "there is no store in schema wfc: run `wfe-postgres upgrade`"
    for _ in range(2):
        result = command("upgrade", "--url", empty_database_url)
        assert (result.code, result.reported_errors) == (0, "")
        assert result.output == f"The store in schema wfc is up to date, at revision {HEAD}.\n"
    result = command("check", "--url", empty_database_url)
    assert (result.code, result.reported_errors) == (0, "")
    assert result.output == f"The store in schema wfc is as it should be, at revision {HEAD}.\n"


@pytest.mark.parametrize(
    ("revision", "words"),
    [(REVISIONS[1], "older than this library"), ("9999", "newer than this library")],
)
def test_older_or_newer_store_is_reported(
    command: Command, database_url: str, sql: Sql, revision: str, words: str
) -> None:
    sql("UPDATE wfc.alembic_version SET version_num = %s", [revision])
    line = error_line(command("check", "--url", database_url), 2)
    assert f"at schema revision {revision}, {words} ({HEAD})" in line
    if revision not in REVISIONS:
        assert error_line(command("upgrade", "--url", database_url), 2) == line


def test_check_lists_differences(command: Command, database_url: str, sql: Sql) -> None:
    sql("DROP INDEX wfc.idx_workflows_runnable")
    sql("ALTER TABLE wfc.events ALTER event_data DROP DEFAULT")
    result = command("check", "--url", database_url)
    assert (result.code, result.reported_errors) == (1, "")
    assert result.output.splitlines() == [
        "index idx_workflows_runnable is missing",
        "  repair: `wfe-postgres upgrade`, or DROP INDEX CONCURRENTLY IF EXISTS wfc.idx_workflows_runnable;"
        " CREATE INDEX CONCURRENTLY idx_workflows_runnable ON wfc.workflows USING btree (next_execution, id)"
        " WHERE (((status = 'Runnable'::text) IS TRUE) AND (next_execution IS NOT NULL));",
        "column events.event_data is «jsonb NOT NULL», should be «jsonb NOT NULL DEFAULT 'null'::jsonb»",
        "  repair: `wfe-postgres upgrade`, or ALTER TABLE wfc.events ALTER COLUMN event_data"
        " SET DEFAULT 'null'::jsonb;",
    ]


def test_check_reports_function_difference_in_one_line(command: Command, database_url: str, sql: Sql) -> None:
    [(function,)] = sql("SELECT min(p.oid::regprocedure::text) FROM pg_proc p WHERE pronamespace = 'wfc'::regnamespace")
    sql(f"ALTER FUNCTION {function} COST 7")
    result = command("check", "--url", database_url)
    assert result.code == 1
    line, repair = result.output.splitlines()
    assert line.startswith("function ")
    assert "COST 7" in line
    assert repair.startswith("  repair: `wfe-postgres upgrade`, or CREATE OR REPLACE FUNCTION ")


def test_url_and_schema_are_read_from_environment(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    monkeypatch.setenv("WFE_SCHEMA", "elsewhere")
    assert "in schema elsewhere" in error_line(command("check"), 2)
    assert command("upgrade").output == f"The store in schema elsewhere is up to date, at revision {HEAD}.\n"
    assert command("check").code == 0
    assert command("check", "--schema", "wfc").code == 0
    assert "in schema nowhere" in error_line(command("check", "--schema", "nowhere"), 2)


def test_role_without_create_privilege_is_reported(command: Command, tcp_url: str) -> None:
    import psycopg

    with psycopg.connect(tcp_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE wfe_poor LOGIN PASSWORD '{SECRET}'")
    url = make_url(tcp_url).set(username="wfe_poor", password=SECRET).render_as_string(hide_password=False)
    line = error_line(command("upgrade", "--url", url), 2)
    assert line.startswith("there is no store in schema wfc: run `wfe-postgres upgrade`, as a role that owns it")
    line = error_line(command("demo", "--url", url), 2)
    assert line.startswith("the demo creates a schema, for which the role needs the CREATE privilege on the database")


def test_demo_rejects_existing_schema(command: Command, database_url: str, sql: Sql) -> None:
    before = sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'wfc'::regnamespace")
    line = error_line(command("demo", "--url", database_url, "--schema", "wfc"), 2)
    assert line == "schema wfc already exists; the demo must create and drop its own schema"
    assert sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'wfc'::regnamespace") == before


@pytest.mark.parametrize("name", ["", *ARGUMENTS, "demo", "work"])
def test_help_fits_60_columns(command: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = command(*name.split(), "--help").output.splitlines()
    assert [line for line in lines if len(line) > 60] == []
    assert [line for line in lines if line.endswith("...") and "[OPTIONS]" not in line] == []  # cut off
    assert name == "" or not any(line.endswith("postgresql:") for line in lines)  # broken within the URL


@pytest.mark.parametrize("name", [*ARGUMENTS, "demo", "work"])
def test_command_help_shows_example_and_exit_codes(command: Command, name: str) -> None:
    result = command(name, "--help")
    assert result.code == 0
    for line in ("  Example:", "  Exit codes:", "    0  "):
        assert any(shown.startswith(line) for shown in result.output.splitlines()), line
    assert max(map(len, result.output.splitlines())) <= 80


def test_help_lists_every_command(command: Command) -> None:
    result = command("--help")
    assert result.code == 0
    for name in [*ARGUMENTS, "demo", "work"]:
        assert f"\n  {name} " in result.output


def test_help_explains_exit_codes(command: Command) -> None:
    lines = command("--help").output.splitlines()
    assert "  Exit codes of every command:" in lines
    for code in (0, 1, 2, 3, 4, 130):
        assert any(line.startswith(f"    {code:<3}  ") for line in lines), code
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"upgrade"}))
def test_missing_store_is_reported(command: Command, empty_database_url: str, name: str) -> None:
    line = error_line(command(name, *ARGUMENTS[name], "--url", empty_database_url), 2)
    assert "run `wfe-postgres upgrade`" in line
    line = error_line(command(name, *ARGUMENTS[name], "--url", empty_database_url, "--schema", "tenant"), 2)
    assert "run `wfe-postgres upgrade --schema tenant`" in line


def test_version_option_prints_version(command: Command) -> None:
    assert command("--version").output == f"{version('wfe-postgres')}\n"


def in_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a subprocess."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_package_can_be_run_as_module() -> None:
    run = in_python("-m", "wfe_postgres", "check")
    assert run.returncode == 2
    assert run.stderr.startswith("wfe-postgres: no database: pass --url")


@pytest.mark.parametrize(("missing", "arguments"), [("typer", ["check"]), ("rich", ["demo"])])
def test_missing_cli_extra_says_what_to_install(missing: str, arguments: list[str]) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['wfe-postgres', *{arguments!r}]; "
        "from wfe_postgres.__main__ import main; main()"
    )
    run = in_python("-c", program)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "wfe-postgres: the command needs typer and rich: pip install 'wfe-postgres[cli]'\n"


def test_importing_the_library_does_not_import_typer_or_rich() -> None:
    program = "import sys, wfe_postgres, wfe_postgres.host; print({'typer', 'rich', 'alembic'} & set(sys.modules))"
    assert in_python("-c", program).stdout == "set()\n"


def test_upgrade_with_sql_option_prints_all_migrations(command: Command) -> None:
    """`upgrade --sql` needs no database, and prints every migration for the given schema."""
    printed = command("upgrade", "--sql", "--schema", "tenant")
    assert printed.code == 0
    assert "tenant.workflows" in printed.output
    assert "wfc." not in printed.output
    assert printed.output.count("-- Running upgrade") == len(REVISIONS)
    assert printed.reported_errors == ""


def test_upgrade_with_from_option_prints_what_follows(command: Command) -> None:
    printed = command("upgrade", "--sql", "--from", REVISIONS[-2])
    assert (printed.code, printed.reported_errors) == (0, "")
    assert [line for line in printed.lines if "Running upgrade" in line] == [
        f"-- Running upgrade {REVISIONS[-2]} -> {HEAD}"
    ]


@pytest.mark.parametrize("options", [("--sql", "--from", "0999"), ("--from", REVISIONS[0])])
def test_from_option_without_sql_or_of_unknown_revision_is_rejected(command: Command, options: tuple[str, ...]) -> None:
    result = command("upgrade", *options)
    assert (result.code, result.output) == (2, "")
    assert f"with --sql, one of {', '.join(REVISIONS)}" in result.reported_errors
