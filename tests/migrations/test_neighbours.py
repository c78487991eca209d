"""An application's own tables and Alembic history in the same database: neither sees the other."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from alembic import command
from alembic.config import Config

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, revision_of, upgrade_store
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
    """Runs Alembic's commands on the application's own migrations."""
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


def test_two_histories_side_by_side(empty_database_url: str, sql: Sql, application: Callable[..., object]) -> None:
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


def test_the_applications_history_may_lie_in_the_stores_schema_under_its_own_name(
    empty_database_url: str, sql: Sql
) -> None:
    sql("CREATE SCHEMA wfc")
    sql("CREATE TABLE wfc.application_version (version_num TEXT)")
    sql("CREATE TYPE wfc.mood AS ENUM ('ok')")
    upgrade_store(empty_database_url)
    alembic(empty_database_url, command.check)
    assert differences(empty_database_url) == []
