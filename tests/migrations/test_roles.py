"""Who may do what: the owner migrates, the application's role has USAGE and the four verbs, and no more."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from sqlalchemy import URL, Engine, event, make_url

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, engine_for, make_rust_store, upgrade_store
from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres import schema as store

RUST_POINTER = (
    "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('new', 'w1', 9, 'Pending')"
)


@pytest.fixture
def role(server: str, sql: Sql) -> Iterator[str]:
    """A role that may create nothing, in no database, not even temporary tables."""
    name, database = f"wfe_{uuid4().hex}", sql("SELECT current_database()")[0][0]
    try:
        sql(f"CREATE ROLE {name} LOGIN PASSWORD 'app' NOSUPERUSER NOCREATEDB")
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("the user may not create roles")
    sql(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    sql(f"GRANT CONNECT ON DATABASE {database} TO {name}")
    yield name
    sql(f"DROP OWNED BY {name}")
    sql(f"DROP ROLE {name}")
    sql(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC")


def as_role(url: str, name: str) -> str:
    return make_url(url).set(username=name, password="app").render_as_string(hide_password=False)


def grant(sql: Sql, name: str, *, all_tables: bool = True) -> None:
    """What the contract asks for; on the seven tables alone, or on all that lie in the schema."""
    tables = "ALL TABLES IN SCHEMA wfc" if all_tables else ", ".join(f"wfc.{table}" for table in sorted(store.TABLES))
    sql(f"GRANT USAGE ON SCHEMA wfc TO {name}")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA wfc TO {name}")


@pytest.mark.parametrize("all_tables", [True, False])
def test_a_store_that_is_up_to_date_needs_no_ddl(
    empty_database_url: str, sql: Sql, role: str, all_tables: bool
) -> None:
    upgrade_store(empty_database_url)
    grant(sql, role, all_tables=all_tables)
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        upgrade_store(as_role(empty_database_url, role))
        assert set(sent) == {"SELECT"}
        assert len(sent) == 4
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert differences(as_role(empty_database_url, role)) == []


def test_a_missing_store_is_an_error_that_says_what_helps(empty_database_url: str, role: str) -> None:
    with pytest.raises(StoreNotReadyError, match="no store in schema wfc: run `wfe-postgres upgrade`, as a role") as it:
        upgrade_store(as_role(empty_database_url, role))
    assert (it.value.sqlstate, it.value.__context__) == ("42501", None)


def test_an_older_store_is_an_error_that_says_what_helps(empty_database_url: str, sql: Sql, role: str) -> None:
    alembic(empty_database_url, command.upgrade, "0003")
    grant(sql, role)
    with pytest.raises(StoreNotReadyError, match=r"revision 0003, older .*, as a role that owns it"):
        upgrade_store(as_role(empty_database_url, role))


def test_a_newer_store_is_left_alone(database_url: str, sql: Sql) -> None:
    sql("UPDATE wfc.alembic_version SET version_num = '0999'")
    for call in (store.ensure, store.upgrade, store.check):
        with (
            engine_for(database_url) as engine,
            pytest.raises(StoreNotReadyError, match=r"0999, newer .*: update the library wfe_postgres"),
        ):
            call(engine)
    assert sql("SELECT version_num FROM wfc.alembic_version") == [("0999",)]


def test_a_store_that_lost_a_table_is_no_store(database_url: str, sql: Sql) -> None:
    sql("DROP TABLE wfc.event_subscriptions, wfc.events")
    with pytest.raises(StoreNotReadyError, match=r"tables are missing \(event_subscriptions, events\)"):
        upgrade_store(database_url)


def test_an_owner_without_create_on_the_database_can_migrate(empty_database_url: str, sql: Sql, role: str) -> None:
    """The DBA made the schema and gave it away; CREATE SCHEMA IF NOT EXISTS would fail even so."""
    sql(f"CREATE SCHEMA wfc AUTHORIZATION {role}")
    upgrade_store(as_role(empty_database_url, role))
    assert differences(empty_database_url) == []
    alembic(as_role(empty_database_url, role), command.downgrade, "base")
    upgrade_store(as_role(empty_database_url, role))


def test_a_rust_host_without_other_rights_can_still_insert_after_the_upgrade(
    empty_database_url: str, sql: Sql, role: str
) -> None:
    """Its INSERT of a pointer now draws from a sequence that was not there when the rights were given."""
    make_rust_store(empty_database_url)
    grant(sql, role)
    upgrade_store(empty_database_url)
    with psycopg.connect(as_role(empty_database_url, role)) as connection:
        connection.execute(RUST_POINTER)
        connection.execute("UPDATE wfc.workflows SET status = 'Complete'")
        connection.execute("UPDATE wfc.scheduled_commands SET claim = 1")
        connection.execute("UPDATE wfc.scheduled_commands SET execute_time = 1")
        assert connection.execute("SELECT rescheduled FROM wfc.scheduled_commands").fetchall() == [(True,)]


def test_a_server_that_is_not_there_is_one_of_our_errors() -> None:
    nowhere = URL.create("postgresql", "wfe", "canary", "127.0.0.1", 1, "wfe")
    for call in (store.ensure, store.upgrade, store.check):
        with (
            engine_for(nowhere.render_as_string(hide_password=False)) as engine,
            pytest.raises(PersistenceError, match="cannot connect") as caught,
        ):
            call(engine)
        assert caught.value.__context__ is None
        assert "canary" not in str(caught.value)


def test_a_server_that_has_no_connection_left_for_the_upgrade_is_one_of_our_errors(
    empty_database_url: str, sql: Sql, role: str
) -> None:
    """Looking needs one connection, upgrading two at a time."""
    sql(f"CREATE SCHEMA wfc AUTHORIZATION {role}")
    sql(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    with pytest.raises(PersistenceError, match="cannot connect") as caught:
        upgrade_store(as_role(empty_database_url, role))
    assert caught.value.__context__ is None
    sql(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    upgrade_store(as_role(empty_database_url, role))
    assert differences(empty_database_url) == []
