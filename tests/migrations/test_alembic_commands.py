"""Alembic commands with the `alembic.ini` of the checkout."""

import ast
import configparser
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Protocol

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, make_url
from sqlalchemy.exc import OperationalError

from tests.conftest import Sql
from tests.migrations.stores import (
    ROOT,
    RUST_LAYOUT,
    alembic,
    differences,
    layout_of,
    make_rust_store,
    revision_of,
    upgrade_store,
)
from wfe_postgres.schema import HEAD, REVISIONS


class RunAlembic(Protocol):
    def __call__(
        self,
        run_command: Callable[..., object],
        *arguments: str,
        url: str | None,
        schema: str = "",
        x: tuple[str, ...] = (),
    ) -> None: ...


def test_revisions_are_linear_with_one_head() -> None:
    scripts = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert scripts.get_heads() == [HEAD]
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert [script.path.rsplit("/")[-1][:4] for script in scripts.walk_revisions()][::-1] == [*REVISIONS]


def test_alembic_ini_has_three_keys() -> None:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "alembic.ini")
    assert {name: len(parser[name]) for name in parser.sections()} == {"alembic": 3}


def test_migrations_import_only_alembic_and_sqlalchemy() -> None:
    imported = set()
    for path in (ROOT / "migrations/versions").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    assert "alembic" in imported
    assert imported <= {"alembic", "sqlalchemy"}


def test_upgrade_downgrade_upgrade_in_another_schema(empty_database_url: str) -> None:
    url, schema = empty_database_url, "engine_2"
    alembic(url, command.upgrade, "head", schema=schema)
    first = layout_of(url, schema)
    assert differences(url, schema) == []
    for target in [*REVISIONS[-2::-1], "base"]:
        alembic(url, command.downgrade, target, schema=schema)
        assert revision_of(url, schema) == (None if target == "base" else target)
    assert layout_of(url, schema) == {}
    for target in REVISIONS:
        alembic(url, command.upgrade, target, schema=schema)
        assert revision_of(url, schema) == target
    assert layout_of(url, schema) == first


def test_each_downgrade_restores_the_previous_layout(empty_database_url: str) -> None:
    layouts = {}
    for target in REVISIONS:
        alembic(empty_database_url, command.upgrade, target)
        layouts[target] = layout_of(empty_database_url)
    for target in REVISIONS[-2::-1]:
        alembic(empty_database_url, command.downgrade, target)
        assert layout_of(empty_database_url) == layouts[target], target


def test_first_revision_is_the_rust_layout(empty_database_url: str, database_url: str, sql: Sql) -> None:
    """`sql` is connected to the empty database."""
    sql(RUST_LAYOUT)
    alembic(database_url, command.downgrade, "0001")
    assert layout_of(database_url) == layout_of(empty_database_url)
    assert "column workflows.last_heartbeat_at" in layout_of(database_url)


@pytest.mark.parametrize("schema", ["wfc", "engine_2"])
@pytest.mark.parametrize("on_search_path", [False, True])
def test_alembic_check_at_head_finds_no_changes(
    empty_database_url: str, sql: Sql, schema: str, on_search_path: bool
) -> None:
    upgrade_store(empty_database_url, schema)
    sql(f"CREATE TABLE {schema}._sqlx_migrations (version BIGINT); CREATE TABLE {schema}.audit (id INT)")
    sql("CREATE TABLE public.customers (id INT)")
    if on_search_path:
        sql(f"ALTER DATABASE {make_url(empty_database_url).database} SET search_path = {schema}")
    alembic(empty_database_url, command.check, schema=schema)


def test_alembic_check_detects_missing_column(database_url: str, sql: Sql) -> None:
    sql("ALTER TABLE wfc.workflows DROP COLUMN reference")
    with pytest.raises(CommandError, match=r"add_column.*reference"):
        alembic(database_url, command.check)


def test_importing_the_package_does_not_import_alembic() -> None:
    program = "import sys, wfe_postgres, wfe_postgres.schema; sys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


@pytest.fixture
def run_alembic(monkeypatch: pytest.MonkeyPatch) -> RunAlembic:
    """Runs a function of `alembic.command` as the command line does, configured by environment variables and `-x`."""

    def run(
        run_command: Callable[..., object], *arguments: str, url: str | None, schema: str = "", x: tuple[str, ...] = ()
    ) -> None:
        for name, value in {"WFE_DATABASE_URL": url, "WFE_SCHEMA": schema}.items():
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        run_command(Config(str(ROOT / "alembic.ini"), cmd_opts=Namespace(x=list(x))), *arguments)

    return run


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_alembic_accepts_every_url_scheme(empty_database_url: str, run_alembic: RunAlembic, scheme: str) -> None:
    _, _, rest = empty_database_url.partition("://")
    run_alembic(command.upgrade, "head", url=f"{scheme}://{rest}")
    assert differences(empty_database_url) == []


def test_percent_sign_in_password_is_not_interpolated(run_alembic: RunAlembic) -> None:
    url = URL.create("postgresql", "wfe", "%(here)s %s", "127.0.0.1", 1, "wfe")
    with pytest.raises(OperationalError, match=r"127\.0\.0\.1") as caught:
        run_alembic(command.upgrade, "head", url=url.render_as_string(hide_password=False))
    assert "(here)s" not in str(caught.value)


def test_schema_from_command_line_overrides_environment(empty_database_url: str, run_alembic: RunAlembic) -> None:
    run_alembic(command.upgrade, "head", url=empty_database_url, schema="second", x=("schema=first",))
    assert (revision_of(empty_database_url, "first"), revision_of(empty_database_url, "second")) == (HEAD, None)
    run_alembic(command.upgrade, "head", url=empty_database_url, schema="second")
    assert (revision_of(empty_database_url, "second"), revision_of(empty_database_url)) == (HEAD, None)


def test_missing_url_raises_error_naming_the_variable(run_alembic: RunAlembic) -> None:
    with pytest.raises(CommandError, match=r"^set WFE_DATABASE_URL: postgresql://"):
        run_alembic(command.upgrade, "head", url=None)


def test_alembic_program_upgrades_the_store(empty_database_url: str) -> None:
    program = [
        sys.executable,
        "-m",
        "alembic",
        "-c",
        str(ROOT / "alembic.ini"),
        "-x",
        "schema=engine",
        "upgrade",
        "head",
    ]
    environment = os.environ | {"WFE_DATABASE_URL": empty_database_url}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout + done.stderr == ""
    assert differences(empty_database_url, "engine") == []


@pytest.mark.parametrize("name", ["Wfc", "w-c", "wfc; DROP TABLE x", "select", "w" * 64])
def test_schema_name_that_needs_quoting_is_rejected(empty_database_url: str, name: str) -> None:
    with pytest.raises(CommandError, match="would have to be quoted"):
        alembic(empty_database_url, command.upgrade, "head", schema=name)


@pytest.mark.parametrize("name", ["w" * 63, "a_1"])
def test_plain_schema_name_is_accepted(empty_database_url: str, name: str) -> None:
    upgrade_store(empty_database_url, name)
    assert differences(empty_database_url, name) == []


@pytest.mark.parametrize(("run_command", "arguments"), [(command.check, ()), (command.downgrade, ("base",))])
def test_command_on_missing_store_raises_one_line_error(
    empty_database_url: str, sql: Sql, run_command: Callable[..., object], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(CommandError, match=r"^there is no store in schema wfc: run `alembic upgrade head`$"):
        alembic(empty_database_url, run_command, *arguments)
    alembic(empty_database_url, command.current)
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'wfc'") == []


def test_check_of_store_without_alembic_version_changes_nothing(empty_database_url: str) -> None:
    make_rust_store(empty_database_url)
    with pytest.raises(CommandError, match="not up to date"):
        alembic(empty_database_url, command.check)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('wfc.alembic_version')").fetchone() == (None,)
