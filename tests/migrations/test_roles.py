"""Who may do what: the owner migrates, the application's role has USAGE and the four verbs, and no more."""

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


ROLES = (ROOT / "examples" / "roles.sql").read_text(encoding="utf-8")
CREATE_OWNER = "CREATE ROLE wfe_owner LOGIN;\n"

Roles = tuple[str, str]


@pytest.fixture
def run_roles_sql(empty_database_url: str, sql: Sql) -> Iterator[Callable[..., Roles]]:
    """Runs examples/roles.sql, under names of this test's own; gives the URLs of the owner and of the application.

    On a server where PUBLIC may do nothing in the database, so that what the two can do they can by this file.
    """
    created, database = [], sql("SELECT current_database()")[0][0]

    def run(owner: str | None = None) -> Roles:
        """With an owner: as for a store that is there already."""
        script, names = ROLES, {"wfe_owner": owner or f"wfe_{uuid4().hex}", "wfe_app": f"wfe_{uuid4().hex}"}
        if owner:
            script = script.replace(CREATE_OWNER, "")
        for name, replaced_by in names.items():
            script = script.replace(name, replaced_by)
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


Probe = Callable[[str, str], object]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """The exit code of `wfe-postgres`, as a deployment or a probe sees it."""

    def run(name: str, url: str) -> object:
        monkeypatch.setattr(sys, "argv", ["wfe-postgres", name, "--url", url])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    return run


def call_everything(application: str, monkeypatch: pytest.MonkeyPatch, truncating: str) -> None:
    """Make every call there is but `truncate_all`, for which some calls' preparations borrow another's right."""
    with PostgresPersistenceProvider(application) as provider, PostgresPersistenceProvider(truncating) as other:
        monkeypatch.setattr(provider, "truncate_all", other.truncate_all)
        for name in sorted(ALL.keys() - LARGE.keys() - {"truncate_all"}):
            ALL[name].prepare(provider)()


def test_the_roles_of_the_example(
    run_roles_sql: Callable[..., Roles], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner migrates with no other right; the application makes every call; the probe says how it stands."""
    owner, application = run_roles_sql()
    assert [probe("check", application), probe("upgrade", application)] == [2, 2]
    assert probe("upgrade", owner) == 0
    assert [probe("check", application), probe("upgrade", application)] == [0, 0]
    call_everything(application, monkeypatch, truncating=owner)


def test_the_owner_of_the_example_runs_the_printed_script(
    run_roles_sql: Callable[..., Roles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In psql; the application can work on what it makes."""
    owner, application = run_roles_sql()
    assert apply(owner, printed(command.upgrade, "head")) == ""
    assert differences(owner) == []
    call_everything(application, monkeypatch, truncating=owner)


def test_the_application_of_the_example_has_no_other_right(run_roles_sql: Callable[..., Roles]) -> None:
    """It cannot change the store, nor create anything beside it."""
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


def test_the_roles_of_the_example_on_a_store_that_is_there(
    empty_database_url: str, sql: Sql, run_roles_sql: Callable[..., Roles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner stays; the application gets what is there, and what the next upgrade brings."""
    alembic(empty_database_url, command.upgrade, "0003")
    [(owner,)] = sql("SELECT current_user::text")
    owners_url, application = run_roles_sql(owner)
    upgrade_store(owners_url)
    call_everything(application, monkeypatch, truncating=owners_url)
