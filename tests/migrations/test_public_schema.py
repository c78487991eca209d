"""A store in the schema of an application, which has its own `alembic_version` there."""

import pytest
from alembic import command

from tests.conftest import Sql
from tests.migrations.printed import apply, printed
from tests.migrations.stores import alembic, differences, revision_of, upgrade_store
from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError, WorkflowInstance
from wfe_postgres.schema import HEAD, upgrade_script

APPLICATION = """
CREATE TABLE {schema}.alembic_version (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);
INSERT INTO {schema}.alembic_version VALUES ('{revision}');
"""
OLD_STORE = """
ALTER TABLE public.wfe_alembic_version RENAME CONSTRAINT wfe_alembic_version_pkc TO alembic_version_pkc;
ALTER TABLE public.wfe_alembic_version RENAME TO alembic_version;
"""
OUR_TABLE = "SELECT version_num FROM public.wfe_alembic_version"
THEIR_TABLE = "SELECT version_num FROM public.alembic_version"


@pytest.mark.parametrize("revision", ["a1b2c3", "0001", "0003", HEAD, "0999"])
@pytest.mark.parametrize("way", ["ensure", "script"])
def test_store_in_public_leaves_alembic_version_of_application_alone(
    empty_database_url: str, sql: Sql, revision: str, way: str
) -> None:
    sql(APPLICATION.format(schema="public", revision=revision))
    with pytest.raises(StoreNotReadyError, match=r"no store in schema public: run `wfe-postgres upgrade`"):
        differences(empty_database_url, "public")
    if way == "script":
        assert apply(empty_database_url, upgrade_script("public")) == ""
    upgrade_store(empty_database_url, "public")
    assert (sql(THEIR_TABLE), sql(OUR_TABLE)) == ([(revision,)], [(HEAD,)])
    assert (revision_of(empty_database_url, "public"), differences(empty_database_url, "public")) == (HEAD, [])
    with PostgresPersistenceProvider(empty_database_url, schema="public") as provider:
        provider.create_new_workflow(WorkflowInstance("order", 1))
        assert provider.get_statistics().schema_revision == HEAD
        provider.truncate_all()
    alembic(empty_database_url, command.downgrade, "base", schema="public")
    assert (sql(THEIR_TABLE), sql(OUR_TABLE)) == ([(revision,)], [])


def test_application_can_begin_its_history_after_the_store(empty_database_url: str, sql: Sql) -> None:
    upgrade_store(empty_database_url, "public")
    sql(APPLICATION.format(schema="public", revision="a1b2c3"))
    upgrade_store(empty_database_url, "public")
    assert (sql(THEIR_TABLE), differences(empty_database_url, "public")) == ([("a1b2c3",)], [])


@pytest.mark.parametrize("revision", ["0003", "0005"])
@pytest.mark.parametrize("way", ["ensure", "script"])
def test_version_table_of_older_release_is_renamed(empty_database_url: str, sql: Sql, revision: str, way: str) -> None:
    """Version 0.1.0 had it under the name that is the application's."""
    alembic(empty_database_url, command.upgrade, revision, schema="public")
    sql(OLD_STORE)
    assert revision_of(empty_database_url, "public") == revision
    if way == "script":
        assert apply(empty_database_url, printed(command.upgrade, "head", "public")) == ""
    upgrade_store(empty_database_url, "public")
    assert sql(OUR_TABLE) == [(HEAD,)]
    assert sql("SELECT to_regclass('public.alembic_version'), to_regclass('public.alembic_version_pkc')") == [
        (None, None)
    ]
    sql(APPLICATION.format(schema="public", revision="a1b2c3"))
    assert differences(empty_database_url, "public") == []


@pytest.mark.parametrize("revision", ["a1b2c3", "0003", HEAD])
def test_other_schema_with_alembic_version_of_application_is_refused(
    empty_database_url: str, sql: Sql, revision: str
) -> None:
    sql("CREATE SCHEMA shop")
    sql(APPLICATION.format(schema="shop", revision=revision))
    with pytest.raises(StoreNotReadyError, match=r"shop\.alembic_version is of another program: give the store a"):
        upgrade_store(empty_database_url, "shop")
    assert sql("SELECT version_num FROM shop.alembic_version") == [(revision,)]
    assert sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind = 'r'") == [(1,)]


@pytest.mark.parametrize("schema", ["public", "wfc"])
def test_store_without_tables_is_made_anew(empty_database_url: str, sql: Sql, schema: str) -> None:
    """For example after the `drop_all()` of a test suite, which leaves the version table and the functions."""
    upgrade_store(empty_database_url, schema)
    [(tables,)] = sql(
        "SELECT string_agg(oid::regclass::text, ',') FROM pg_class WHERE relkind = 'r'"
        f" AND relnamespace = '{schema}'::regnamespace AND relname NOT LIKE '%alembic_version'"
    )
    sql(f"DROP TABLE {tables}")
    with pytest.raises(StoreNotReadyError, match="there is no store in schema"):
        differences(empty_database_url, schema)
    upgrade_store(empty_database_url, schema)
    assert differences(empty_database_url, schema) == []
