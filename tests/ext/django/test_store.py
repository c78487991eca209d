"""`migrate` makes the store, whatever is done to migrations; the commands and checks say how it is."""

import json
from typing import Any

import pytest

from tests.conftest import Sql
from tests.ext.django.kit import manage

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'wfc' AND tablename = 'workflows'"


def test_migrate_makes_the_store_before_the_migrations_of_the_project(empty_database_url: str, sql: Sql) -> None:
    """A migration of the project has started a workflow. The second time nothing is left to do."""
    assert "no store in schema wfc: run `manage.py migrate`" in manage(empty_database_url, "migrate")
    assert sql("SELECT name FROM wfc.workflows") == [("of the migration",)]
    assert "wfe." not in manage(empty_database_url, "migrate")
    assert "no issues" in manage(empty_database_url, "check", "--database", "default", "--fail-level", "WARNING")
    assert manage(empty_database_url, "makemigrations", "--check", "--dry-run").strip() == "No changes detected"


def test_store_survives_migrate_zero(empty_database_url: str, sql: Sql) -> None:
    manage(empty_database_url, "migrate")
    assert "does not have migrations" in manage(empty_database_url, "migrate", "wfe", "zero", code=1)
    manage(empty_database_url, "migrate", "shop", "zero")
    assert sql("SELECT name FROM wfc.workflows") == [("of the migration",)]


def test_store_is_made_by_fake_migrations(empty_database_url: str, sql: Sql) -> None:
    manage(empty_database_url, "migrate", "--fake")
    assert sql(TABLES) == [(1,)]


def test_store_is_made_where_migrations_are_switched_off(empty_database_url: str, sql: Sql) -> None:
    modules = {"shop": None, "wfe": None}
    manage(empty_database_url, "migrate", "--run-syncdb", migration_modules=modules)
    assert sql(TABLES) == [(1,)]


def test_store_is_made_in_its_own_database_and_schema_alone(empty_database_url: str, sql: Sql) -> None:
    vary: dict[str, Any] = {"databases": {"flows": {}}, "wfe": {"DATABASE": "flows", "SCHEMA": "flows"}}
    manage(empty_database_url, "migrate", "auth", **vary)
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'flows'") == []
    manage(empty_database_url, "migrate", "auth", "--database", "flows", **vary)
    assert sql("SELECT count(*) FROM flows.workflows") == [(0,)]


def test_commands_report_and_repair_the_store(empty_database_url: str, sql: Sql) -> None:
    url = empty_database_url
    missing = "manage.py: there is no store in schema wfc: run `manage.py wfe_upgrade`\n"
    assert manage(url, "wfe_check", code=2) == missing
    assert manage(url, "wfe_work", code=2) == missing
    manage(url, "wfe_upgrade")
    sql("DROP INDEX wfc.idx_workflows_status")
    assert "`manage.py wfe_upgrade`" in manage(url, "wfe_check", code=1)
    assert "Repaired: index idx_workflows_status" in manage(url, "wfe_upgrade")
    manage(url, "wfe_check")
    assert json.loads(manage(url, "wfe_status", "--json"))["schema"] == "wfc"


def test_store_that_is_newer_is_an_error_of_the_check(empty_database_url: str, sql: Sql) -> None:
    manage(empty_database_url, "wfe_upgrade")
    sql("UPDATE wfc.alembic_version SET version_num = '9999'")
    assert "newer than this library" in manage(empty_database_url, "check", "--database", "default", code=1)
    assert "wfe." not in manage(empty_database_url, "check")


def test_definition_that_cannot_be_imported_is_an_error_of_each_check(empty_database_url: str) -> None:
    shown = manage(empty_database_url, "check", "--database", "default", wfe={"DEFINITIONS": ["tests.none"]}, code=1)
    assert shown.count("(wfe.E003)") == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("wfe_status", "--every=0"), "--every: 0 is not in the range x>=0.1"),
        (("wfe_work", "--threads=0"), "--threads: 0 is not in the range x>=1"),
        (("wfe_work", "--processes=two"), "--processes: 'two' is not a valid number"),
        (("wfe_work", "--stop-timeout=nan"), "--stop-timeout: nan is not in the range x>=0"),
    ],
    ids=str,
)
def test_option_of_a_command_that_makes_no_sense_is_refused(arguments: tuple[str, ...], text: str) -> None:
    assert text in manage("postgresql:///none", *arguments, code=2)


@pytest.mark.parametrize(
    ("wfe", "text"),
    [
        ({"LEESE": 1}, "(wfe.E001) WFE has no key 'LEESE'; it has DATABASE, SCHEMA, "),
        ({"DEFINITIONS": "shop.ORDER"}, "(wfe.E001) WFE['DEFINITIONS'] is a list of dotted paths"),
        ({"MIDDLEWARE": None}, "(wfe.E001) WFE['MIDDLEWARE'] is a list of dotted paths"),
        ({"PROVIDER": "retry_budget"}, "(wfe.E001) WFE['PROVIDER'] is a dict of keywords"),
        ({"SCHEMA": "Flows"}, "(wfe.E001) WFE['SCHEMA']: "),
        ({"DATABASE": "other"}, "(wfe.E002) WFE['DATABASE']: there is no 'other' in DATABASES"),
        ({"DATABASE": "lite"}, "(wfe.E002) WFE['DATABASE']: the store needs PostgreSQL, and 'lite' is SQLite"),
        ({"DEFINITIONS": ["tests.none.ORDER"]}, "(wfe.E003) WFE: 'tests.none.ORDER': ModuleNotFoundError: "),
        (
            {"DEFINITIONS": ["tests.ext.django.shop.workflows.NO_DEFINITION"]},
            "(wfe.E003) WFE: 'tests.ext.django.shop.workflows.NO_DEFINITION': ValueError: ",
        ),
        ({"MIDDLEWARE": ["os.nothing"]}, "(wfe.E003) WFE: 'os.nothing': ImportError: "),
        ({"THREADS": 0}, "(wfe.E001) WFE: threads, lease and poll_interval are positive"),
    ],
    ids=str,
)
def test_mistake_in_the_setting_is_an_error_of_the_check(wfe: dict[str, object], text: str) -> None:
    lite = {"lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    assert text in manage("postgresql:///none", "check", wfe=wfe, databases=lite, code=1)
