"""An upgrade by another process, between two statements by which a host reads at which revision the store is."""

from collections.abc import Callable

import pytest
from alembic import command
from sqlalchemy import Engine, event

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, engine_for, upgrade_store
from tests.migrations.test_public_schema import OLD_STORE
from wfe_postgres import schema as store

STATEMENTS = 3
"""After each of them something else is read."""


def upgrade_after(engine: Engine, number: int, url: str, schema: str) -> None:
    """Upgrade the store when this engine has executed so many statements."""
    executed = 0

    @event.listens_for(engine, "after_cursor_execute")
    def count(*_: object) -> None:
        nonlocal executed
        executed += 1
        if executed == number:
            upgrade_store(url, schema)


@pytest.mark.parametrize("number", range(1, STATEMENTS + 1))
@pytest.mark.parametrize("schema", ["wfc", "public"])
@pytest.mark.parametrize("start", [None, "0003", "0008"])
@pytest.mark.parametrize("call", [store.ensure, store.upgrade])
def test_store_that_is_upgraded_meanwhile_is_found_ready(
    empty_database_url: str, call: Callable[[Engine, str], None], start: str | None, schema: str, number: int
) -> None:
    if start is not None:
        alembic(empty_database_url, command.upgrade, start, schema=schema)
    with engine_for(empty_database_url) as engine:
        upgrade_after(engine, number, empty_database_url, schema)
        call(engine, schema)
    assert differences(empty_database_url, schema) == []


@pytest.mark.parametrize("number", [1, 2])
def test_store_whose_version_table_is_renamed_meanwhile_is_found_ready(
    empty_database_url: str, sql: Sql, number: int
) -> None:
    """Once the table has been read, an upgrade would wait for the end of the transaction before it can rename it."""
    alembic(empty_database_url, command.upgrade, "0003", schema="public")
    sql(OLD_STORE)
    with engine_for(empty_database_url) as engine:
        upgrade_after(engine, number, empty_database_url, "public")
        store.ensure(engine, "public")
    assert differences(empty_database_url, "public") == []
