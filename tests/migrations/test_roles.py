"""Privileges: the owner migrates; the application has USAGE, SELECT, INSERT, UPDATE and DELETE only."""

import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.exc import ProgrammingError

from tests.conftest import Sql
from tests.migrations.printed import apply, printed
from tests.migrations.stores import ROOT, alembic, differences, engine_for, make_rust_store, upgrade_store
from tests.protocol.calls import ALL, LARGE
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres import schema as store
from wfe_postgres.__main__ import main

RUST_POINTER = (
    "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES ('new', 'w1', 9, 'Pending')"
)


@pytest.fixture
def role(server: str, sql: Sql) -> Iterator[str]:
    """A role without any CREATE privilege, not even for temporary tables."""
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
    """Grant the documented privileges, on all tables in the schema or on the seven store tables only."""
    tables = "ALL TABLES IN SCHEMA wfc" if all_tables else ", ".join(f"wfc.{table}" for table in sorted(store.TABLES))
    sql(f"GRANT USAGE ON SCHEMA wfc TO {name}")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA wfc TO {name}")


@pytest.mark.parametrize("all_tables", [True, False])
def test_upgrade_of_current_store_executes_no_ddl(
    empty_database_url: str, sql: Sql, role: str, all_tables: bool
) -> None:
    upgrade_store(empty_database_url)
    grant(sql, role, all_tables=all_tables)
    sent: list[str] = []

    def record(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", record)
    try:
        upgrade_store(as_role(empty_database_url, role))
        assert set(sent) == {"SELECT"}
        assert len(sent) == 4
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    assert differences(as_role(empty_database_url, role)) == []


def test_missing_store_raises_error_with_instructions(empty_database_url: str, role: str) -> None:
    with pytest.raises(StoreNotReadyError, match="no store in schema wfc: run `wfe-postgres upgrade`, as a role") as it:
        upgrade_store(as_role(empty_database_url, role))
    assert (it.value.sqlstate, it.value.__context__) == ("42501", None)


def test_older_store_raises_error_with_instructions(empty_database_url: str, sql: Sql, role: str) -> None:
    alembic(empty_database_url, command.upgrade, "0003")
    grant(sql, role)
    with pytest.raises(StoreNotReadyError, match=r"revision 0003, older .*, as a role that owns it"):
        upgrade_store(as_role(empty_database_url, role))


def test_newer_store_is_rejected_and_not_changed(database_url: str, sql: Sql) -> None:
    sql("UPDATE wfc.alembic_version SET version_num = '0999'")
    for call in (store.ensure, store.upgrade, store.check):
        with (
            engine_for(database_url) as engine,
            pytest.raises(StoreNotReadyError, match=r"0999, newer .*: update the library wfe_postgres"),
        ):
            call(engine)
    assert sql("SELECT version_num FROM wfc.alembic_version") == [("0999",)]


def test_store_with_missing_tables_is_rejected(database_url: str, sql: Sql) -> None:
    sql("DROP TABLE wfc.event_subscriptions, wfc.events")
    with pytest.raises(StoreNotReadyError, match=r"tables are missing \(event_subscriptions, events\)"):
        upgrade_store(database_url)


def test_schema_owner_without_create_on_database_can_migrate(empty_database_url: str, sql: Sql, role: str) -> None:
    """The schema exists and belongs to the role; CREATE SCHEMA IF NOT EXISTS would fail without CREATE."""
    sql(f"CREATE SCHEMA wfc AUTHORIZATION {role}")
    upgrade_store(as_role(empty_database_url, role))
    assert differences(empty_database_url) == []
    alembic(as_role(empty_database_url, role), command.downgrade, "base")
    upgrade_store(as_role(empty_database_url, role))


def test_rust_host_with_existing_privileges_can_insert_after_upgrade(
    empty_database_url: str, sql: Sql, role: str
) -> None:
    """Its INSERT of a pointer uses a sequence that did not exist when the privileges were granted."""
    make_rust_store(empty_database_url)
    grant(sql, role)
    upgrade_store(empty_database_url)
    with psycopg.connect(as_role(empty_database_url, role)) as connection:
        connection.execute(RUST_POINTER)
        connection.execute("UPDATE wfc.workflows SET status = 'Complete'")
        connection.execute("UPDATE wfc.scheduled_commands SET claim = 1")
        connection.execute("UPDATE wfc.scheduled_commands SET execute_time = 1")
        assert connection.execute("SELECT rescheduled FROM wfc.scheduled_commands").fetchall() == [(True,)]


def test_unreachable_server_raises_persistence_error() -> None:
    unreachable = URL.create("postgresql", "wfe", "canary", "127.0.0.1", 1, "wfe")
    for call in (store.ensure, store.upgrade, store.check):
        with (
            engine_for(unreachable.render_as_string(hide_password=False)) as engine,
            pytest.raises(PersistenceError, match="cannot connect") as caught,
        ):
            call(engine)
        assert caught.value.__context__ is None
        assert "canary" not in str(caught.value)


def test_connection_limit_during_upgrade_raises_persistence_error(empty_database_url: str, sql: Sql, role: str) -> None:
    """The check needs one connection, the upgrade two."""
    sql(f"CREATE SCHEMA wfc AUTHORIZATION {role}")
    sql(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    with pytest.raises(PersistenceError, match="cannot connect") as caught:
        upgrade_store(as_role(empty_database_url, role))
    assert caught.value.__context__ is None
    sql(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    upgrade_store(as_role(empty_database_url, role))
    assert differences(empty_database_url) == []


ROLES = (ROOT / "examples" / "roles.sql").read_text(encoding="utf-8")
CREATE_OWNER = "CREATE ROLE wfe_owner LOGIN;\n"

Roles = tuple[str, str]


@pytest.fixture
def run_roles_sql(empty_database_url: str, sql: Sql) -> Iterator[Callable[..., Roles]]:
    """Runs examples/roles.sql with generated role names; returns the URLs of the owner and of the application.

    All privileges of PUBLIC on the database are revoked, so that the roles have only those that the script grants.
    """
    created, database = [], sql("SELECT current_database()")[0][0]

    def run(owner: str | None = None) -> Roles:
        """With `owner`, run the script for an existing store."""
        script, names = ROLES, {"wfe_owner": owner or f"wfe_{uuid4().hex}", "wfe_app": f"wfe_{uuid4().hex}"}
        if owner:
            script = script.replace(CREATE_OWNER, "")
        for name, replacement in names.items():
            script = script.replace(name, replacement)
        try:
            sql(script)
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("the user may not create roles")
        for name in set(names.values()) - {owner}:
            created.append(name)
            sql(f"ALTER ROLE {name} PASSWORD 'app'")
            sql(f"GRANT CONNECT ON DATABASE {database} TO {name}")
        return empty_database_url if owner else as_role(empty_database_url, names["wfe_owner"]), as_role(
            empty_database_url, names["wfe_app"]
        )

    sql(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    yield run
    for name in created:
        sql(f"DROP OWNED BY {name} CASCADE")
        sql(f"DROP ROLE {name}")
    sql(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC")


RunCommand = Callable[[str, str], object]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Runs a command of `wfe-postgres` and returns its exit code."""

    def run(name: str, url: str) -> object:
        monkeypatch.setattr(sys, "argv", ["wfe-postgres", name, "--url", url])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    return run


def call_everything(application: str, monkeypatch: pytest.MonkeyPatch, truncating: str) -> None:
    """Make every call except `truncate_all`; preparations that truncate use the connection of `truncating`."""
    with PostgresPersistenceProvider(application) as provider, PostgresPersistenceProvider(truncating) as other:
        monkeypatch.setattr(provider, "truncate_all", other.truncate_all)
        for name in sorted(ALL.keys() - LARGE.keys() - {"truncate_all"}):
            ALL[name].prepare(provider)()


def test_example_roles_migrate_and_make_every_call(
    run_roles_sql: Callable[..., Roles], run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner migrates without other privileges; the application makes every call; `check` returns the state."""
    owner, application = run_roles_sql()
    assert [run_command("check", application), run_command("upgrade", application)] == [2, 2]
    assert run_command("upgrade", owner) == 0
    assert [run_command("check", application), run_command("upgrade", application)] == [0, 0]
    call_everything(application, monkeypatch, truncating=owner)


def test_example_owner_runs_the_printed_script(
    run_roles_sql: Callable[..., Roles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application can use the store that the script creates."""
    owner, application = run_roles_sql()
    assert apply(owner, printed(command.upgrade, "head")) == ""
    assert differences(owner) == []
    call_everything(application, monkeypatch, truncating=owner)


def test_example_application_has_no_other_privilege(run_roles_sql: Callable[..., Roles]) -> None:
    """It can neither change the schema of the store nor create other objects."""
    owner, application = run_roles_sql()
    upgrade_store(owner)
    with psycopg.connect(application, autocommit=True) as connection:
        for statement in (
            "CREATE TABLE wfc.orders (id INT)",
            "CREATE INDEX ON wfc.events (event_data)",
            "ALTER TABLE wfc.events ADD COLUMN tenant INT",
            "DROP TABLE wfc.events",
            "TRUNCATE wfc.events",
            "DROP SCHEMA wfc CASCADE",
            "CREATE SCHEMA another",
            "CREATE TEMPORARY TABLE orders (id INT)",
            "ALTER SEQUENCE wfc.execution_errors_id_seq RESTART",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    with PostgresPersistenceProvider(application) as provider, pytest.raises(PersistenceError) as caught:
        provider.truncate_all()
    assert caught.value.sqlstate == "42501"
    with pytest.raises(ProgrammingError, match="must be owner"):
        alembic(application, command.downgrade, "base")
    assert differences(owner) == []


def test_example_roles_on_existing_store_make_every_call(
    empty_database_url: str, sql: Sql, run_roles_sql: Callable[..., Roles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is kept; the application gets privileges on existing objects and on those of the next upgrade."""
    alembic(empty_database_url, command.upgrade, "0003")
    [(owner,)] = sql("SELECT current_user::text")
    owner_url, application = run_roles_sql(owner)
    upgrade_store(owner_url)
    call_everything(application, monkeypatch, truncating=owner_url)
