"""`using()` in the views of a project: transactions, pools, and the errors outside of a transaction."""

from typing import Any

import pytest

from tests.conftest import Sql
from tests.ext.django.kit import manage, python

POOL = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}}
REQUESTS = """
from django.test import Client
client = Client(raise_request_exception=False)
assert client.get("{path}?number=1").status_code == 200
assert client.get("{path}?number=2&fail=").status_code == 500
assert client.get("{path}?number=1").status_code == 500  # the number is taken
"""
WRITTEN = "SELECT reference, (SELECT string_agg(number, ',') FROM shop_order) FROM wfc.workflows WHERE reference <> ''"


@pytest.mark.parametrize(
    ("path", "database"),
    [
        ("/place", {}),
        ("/place", POOL),
        ("/place", {"CONN_MAX_AGE": None, "OPTIONS": {"server_side_binding": True}}),
        ("/place-without", {"ATOMIC_REQUESTS": True}),
        ("/place-without", POOL | {"ATOMIC_REQUESTS": True}),
    ],
    ids=str,
)
def test_workflow_is_committed_with_the_rows_of_the_view(
    path: str, database: dict[str, Any], empty_database_url: str, sql: Sql
) -> None:
    """One that fails leaves neither, whether the transaction is the view's or the request's."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    python(empty_database_url, REQUESTS.replace("{path}", path), database=database)
    assert sql(WRITTEN) == [("1", "1")]


def test_using_outside_a_transaction_says_what_to_do(empty_database_url: str, sql: Sql) -> None:
    manage(empty_database_url, "migrate", "--verbosity=0")
    refused = """
from django.db import transaction
from wfe_postgres.ext.django import host, using
try:
    using()
except transaction.TransactionManagementError as error:
    print(error)
host().start_workflow("order", reference="own")
"""
    assert "outside transaction.atomic() of the database 'default'" in python(empty_database_url, refused)
    assert sql("SELECT reference FROM wfc.workflows WHERE reference <> ''") == [("own",)]


def test_provider_assumes_the_role_of_the_database_options(empty_database_url: str, sql: Sql) -> None:
    """What it creates belongs to the role, as what Django creates."""
    role = "wfe_django_owner"
    sql(f"CREATE ROLE {role}")
    try:
        sql(f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}', current_database()); END $$")
        manage(empty_database_url, "wfe_upgrade", database={"OPTIONS": {"assume_role": role}})
        assert sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'wfc'") == [(role,)]
    finally:
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")
