"""An application with its own tables and Alembic history in the same database is independent of the store."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import produce_migrations
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations.ops import MigrateOperation, OpContainer
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, create_engine, make_url
from sqlalchemy.pool import NullPool

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, revision_of, upgrade_store
from wfe_postgres.autogenerate import exclude_store_tables
from wfe_postgres.schema import HEAD

ENVIRONMENT = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
from sqlalchemy.pool import NullPool

metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True))

engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}

def upgrade():
    {up}

def downgrade():
    {down}
"""


@pytest.fixture
def application(tmp_path: Path, empty_database_url: str) -> Callable[..., object]:
    """Runs Alembic commands on the migrations of the application."""
    versions = tmp_path / "versions"
    versions.mkdir()
    (tmp_path / "env.py").write_text(dedent(ENVIRONMENT), encoding="utf-8")
    create = 'op.create_table("customers", sa.Column("id", sa.Integer, primary_key=True))'
    for revision, before, up, down in (
        ("0001", None, create, 'op.drop_table("customers")'),
        ("a1b2c3", "0001", "pass", "pass"),
    ):
        text = REVISION.format(revision=revision, before=repr(before), up=up, down=down)
        (versions / f"{revision}.py").write_text(text, encoding="utf-8")
    config = Config(attributes={"url": empty_database_url.replace("postgresql://", "postgresql+psycopg://")})
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")

    def run(run_command: Callable[..., object], *arguments: str) -> object:
        return run_command(config, *arguments)

    return run


def test_application_and_store_histories_are_independent(
    empty_database_url: str, sql: Sql, application: Callable[..., object]
) -> None:
    application(command.upgrade, "head")
    upgrade_store(empty_database_url)
    assert sql("SELECT version_num FROM public.alembic_version") == [("a1b2c3",)]
    assert revision_of(empty_database_url) == HEAD
    application(command.check)
    alembic(empty_database_url, command.check)

    application(command.downgrade, "0001")
    alembic(empty_database_url, command.downgrade, "0003")
    assert sql("SELECT version_num FROM public.alembic_version") == [("0001",)]
    assert revision_of(empty_database_url) == "0003"

    application(command.upgrade, "head")
    upgrade_store(empty_database_url)
    alembic(empty_database_url, command.downgrade, "base")
    assert sql("SELECT version_num FROM public.alembic_version") == [("a1b2c3",)]
    application(command.check)
    application(command.downgrade, "base")
    assert sql("SELECT to_regclass('public.customers')") == [(None,)]


def test_application_version_table_may_be_in_the_store_schema(empty_database_url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA wfc")
    sql("CREATE TABLE wfc.application_version (version_num TEXT)")
    sql("CREATE TYPE wfc.mood AS ENUM ('ok')")
    upgrade_store(empty_database_url)
    alembic(empty_database_url, command.check)
    assert differences(empty_database_url) == []


def application_metadata(*, schema: str | None = None) -> MetaData:
    """The metadata of an application: its own table and, with `schema`, a partially mapped table of the store."""
    metadata = MetaData()
    Table("customers", metadata, Column("id", Integer, primary_key=True))
    if schema:
        id, status = Column("id", String, primary_key=True), Column("status", Integer)
        Table("workflows", metadata, id, status, Index("idx_workflows_mine", status), schema=schema)
    return metadata


def proposals(url: str, metadata: MetaData, **options: Any) -> list[str]:
    """The operations that autogenerate proposes for the next migration of the application."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_schemas": True, **options})
        operations = produce_migrations(context, metadata).upgrade_ops
    return described(operations.ops if operations else [])


def described(operations: list[MigrateOperation]) -> list[str]:
    """The names of the operations, with the table that they change."""
    found = []
    for it in operations:
        if isinstance(it, OpContainer):
            found += described(it.ops)
        else:
            name = getattr(it, "table_name", None)
            found.append(f"{type(it).__name__} {getattr(it, 'schema', None)}.{name}")
    return found


@pytest.mark.parametrize("schema", ["wfc", "engine_2"])
def test_autogenerate_with_filters_ignores_the_store(empty_database_url: str, schema: str) -> None:
    """Even with `include_schemas`, and if the application maps a table of the store."""
    alembic(empty_database_url, command.upgrade, "head", schema=schema)
    own, mapped = application_metadata(), application_metadata(schema=schema)
    expected = ["CreateTableOp None.customers"]
    filters = exclude_store_tables(schema)
    assert proposals(empty_database_url, own, **filters) == expected
    assert proposals(empty_database_url, mapped, **filters) == expected
    assert proposals(empty_database_url, mapped, include_object=filters["include_object"]) == expected

    # Without the filters the store tables are proposed, so this test would detect missing filters.
    unfiltered = proposals(empty_database_url, own)
    assert {f"DropTableOp {schema}.workflows", f"DropTableOp {schema}.alembic_version"} <= set(unfiltered)
    by_names_only = proposals(empty_database_url, mapped, include_name=filters["include_name"])
    assert f"CreateTableOp {schema}.workflows" in by_names_only


def test_application_filters_are_called_for_other_objects(empty_database_url: str, sql: Sql) -> None:
    """The filters of the application are called for all objects except those of the store."""
    upgrade_store(empty_database_url)
    sql("CREATE TABLE public.legacy (id INT)")
    sql("CREATE TABLE public.cache (id INT)")
    calls: list[object] = []

    def include_name(name: str | None, kind: str, parents: dict[str, str | None]) -> bool:
        calls.append(name if kind == "schema" else parents["schema_name"])
        return name != "legacy"

    def include_object(item: Any, name: str | None, kind: str, reflected: bool, compared_to: Any) -> bool:
        calls.append((item if kind == "table" else item.table).schema)
        return name != "cache"

    filters = exclude_store_tables(include_name=include_name, include_object=include_object)
    assert proposals(empty_database_url, application_metadata(schema="wfc"), **filters) == [
        "CreateTableOp None.customers"
    ]
    assert set(calls) == {None}


class Entity:
    """A function, a view or a grant of `alembic_utils`: it has a schema and no table, or the name of one."""

    def __init__(self, schema: str, table: str | None = None) -> None:
        self.schema = schema
        if table:
            self.table = table


@pytest.mark.parametrize("table", [None, "workflows"])
def test_filters_judge_what_is_not_part_of_a_table_by_its_schema(table: str | None) -> None:
    calls: list[object] = []

    def include_object(item: Any, *_: object) -> bool:
        calls.append(item)
        return True

    include = exclude_store_tables(include_object=include_object)["include_object"]
    own = Entity("public", table)
    assert include(own, "mine()", "function", True, None)
    assert not include(Entity("wfc", table), "stamp_workflow_revision()", "function", True, None)
    assert calls == [own]
    assert include(Index("detached"), "detached", "index", False, None)
