"""The mixin and the provider in a project's own tests, run by `manage.py test`."""

from typing import Any

import pytest

from tests.conftest import Sql
from tests.ext.django.kit import manage

CASES = "tests.ext.django.shop.cases"
POOL = {"OPTIONS": {"pool": {"min_size": 1}}}
LEFT = "SELECT datname FROM pg_database WHERE datname LIKE 'test_' || current_database() || '%'"


@pytest.mark.parametrize("database", [{}, POOL, {"ATOMIC_REQUESTS": True}, {"CONN_MAX_AGE": None}], ids=str)
def test_tests_of_a_project_pass_and_write_into_the_test_database_alone(
    database: dict[str, Any], empty_database_url: str, sql: Sql
) -> None:
    """Both kinds of test cases. The database of the settings stays empty, the other is dropped."""
    assert "Ran 15 tests" in manage(empty_database_url, "test", "--noinput", CASES, database=database)
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'wfc'") == []
    assert sql(LEFT) == []


def test_each_process_of_parallel_tests_has_the_store_of_its_copy(empty_database_url: str, sql: Sql) -> None:
    """The copies are made while the runner holds no connection of the provider's, and dropped."""
    shown = manage(empty_database_url, "test", "--noinput", "--parallel=2", CASES)
    assert "Ran 15 tests" in shown
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'wfc'") == []
    assert sql(LEFT) == []


def test_store_outside_a_test_database_is_not_emptied(empty_database_url: str, sql: Sql) -> None:
    """The runner makes no test database for what names none."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    shown = manage(empty_database_url, "test", f"{CASES}_without_database", code=1)
    assert "InSimpleTestCase would empty the store of a database that is no test database" in shown
    assert sql("SELECT name FROM wfc.workflows") == [("of the migration",)]
