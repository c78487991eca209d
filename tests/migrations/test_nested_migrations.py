"""An application may call `ensure_store_exists()` inside its own Alembic run."""

from pathlib import Path
from textwrap import dedent

import pytest
from alembic import command
from alembic.config import Config

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, make_rust_store
from wfe_postgres.schema import HEAD

ENVIRONMENT = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, pool

from wfe_postgres import PostgresPersistenceProvider

URL = context.config.attributes["url"]


def ensure():
    with PostgresPersistenceProvider(URL) as provider:
        provider.ensure_store_exists()


{in_environment}
metadata = MetaData()
Table("customers", metadata, Column("id", Integer, primary_key=True))
engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg:"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, on_version_apply=lambda **_: {on_version_apply}
    )
    with context.begin_transaction():
        context.run_migrations()
assert context.config.attributes["url"] == URL
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import context, op

from wfe_postgres import PostgresPersistenceProvider

revision = "{revision}"
down_revision = {before}

def upgrade():
    op.create_table("table_{revision}", sa.Column("id", sa.Integer, primary_key=True))
    {in_migration}
    op.add_column("table_{revision}", sa.Column("note", sa.Text))
    assert context.is_offline_mode() is False

def downgrade():
    op.drop_table("table_{revision}")
"""
IN_MIGRATION = """with PostgresPersistenceProvider(context.config.attributes["url"]) as provider:
        provider.ensure_store_exists()
    op.add_column("table_{revision}", sa.Column("order_id", sa.Text, sa.ForeignKey("wfc.workflows.id")))"""
PLACES = {
    "environment": {"in_environment": "ensure()"},
    "hook": {"on_version_apply": "ensure()"},
    "migration": {"in_migration": IN_MIGRATION},
}


@pytest.fixture(params=PLACES)
def application(request: pytest.FixtureRequest, tmp_path: Path, empty_database_url: str) -> Config:
    """The migrations of an application, which calls `ensure_store_exists()` in one of the places."""
    places = {"in_environment": "", "on_version_apply": "None", "in_migration": "pass", **PLACES[request.param]}
    versions = tmp_path / "versions"
    versions.mkdir()
    (tmp_path / "env.py").write_text(dedent(ENVIRONMENT).format(**places), encoding="utf-8")
    template = (Path(__file__).parents[2] / "migrations/script.py.mako").read_text(encoding="utf-8")
    (tmp_path / "script.py.mako").write_text(template, encoding="utf-8")
    for revision, before in (("a1", None), ("b2", "a1")):
        inside = places["in_migration"].replace("{revision}", revision)
        text = MIGRATION.format(revision=revision, before=repr(before), in_migration=inside)
        (versions / f"{revision}.py").write_text(text, encoding="utf-8")
    config = Config(attributes={"url": empty_database_url})
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    return config


@pytest.mark.parametrize("found", ["no store", "older store", "store at head"])
def test_store_is_created_inside_a_migration_of_the_application(
    empty_database_url: str, sql: Sql, application: Config, found: str
) -> None:
    if found != "no store":
        make_rust_store(empty_database_url)
        alembic(empty_database_url, command.upgrade, "0003" if found == "older store" else HEAD)
    command.upgrade(application, "head")
    assert sql("SELECT version_num FROM public.alembic_version") == [("b2",)]
    assert sql("SELECT count(*) FROM pg_class WHERE relname IN ('table_a1', 'table_b2')") == [(2,)]
    assert sql("SELECT count(*) FROM pg_attribute WHERE attname = 'note'") == [(2,)]
    assert differences(empty_database_url) == []
    command.downgrade(application, "a1")
    assert sql("SELECT version_num FROM public.alembic_version") == [("a1",)]
    assert differences(empty_database_url) == []


def test_autogenerate_of_the_application_goes_on(application: Config, sql: Sql) -> None:
    command.upgrade(application, "head")
    made = command.revision(application, "customers", autogenerate=True)
    assert made is not None
    assert not isinstance(made, list)
    assert "create_table('customers'" in Path(made.path).read_text(encoding="utf-8")
