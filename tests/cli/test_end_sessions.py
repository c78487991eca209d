"""`upgrade --end-sessions-of` ends the sessions whose prepared statements do not survive an upgrade."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from alembic import command as alembic_command
from sqlalchemy import make_url

from tests.cli.running import SECRET, Command, error_line, succeeded
from tests.compatibility.test_prepared_statements import failed
from tests.conftest import Sql
from tests.migrations.stores import alembic, make_rust_store, revision_of
from wfe_postgres.schema import HEAD

ROLE = "wfe_rust_host"


@pytest.fixture
def url(empty_database_url: str) -> str:
    """The URL of a database with a store at revision 0001."""
    make_rust_store(empty_database_url)
    alembic(empty_database_url, alembic_command.upgrade, "0001")
    return empty_database_url


@pytest.fixture
def role(sql: Sql, url: str) -> Iterator[str]:
    """A role that may use the store."""
    sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{SECRET}'")
    sql(f"GRANT USAGE ON SCHEMA wfc TO {ROLE}")
    sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA wfc TO {ROLE}")
    yield ROLE
    sql(f"DROP OWNED BY {ROLE}")
    sql(f"DROP ROLE {ROLE}")


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password=SECRET).render_as_string(hide_password=False)


@contextmanager
def rust_session(url: str, **options: Any) -> Iterator[psycopg.Connection]:
    """A session that has prepared its statements."""
    with psycopg.connect(url, autocommit=True, **options) as session:
        assert failed(session) == set()
        yield session


def is_open(session: psycopg.Connection) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_sessions_of_role_are_ended_and_new_ones_work(command: Command, url: str, role: str) -> None:
    with rust_session(as_role(url, role)) as theirs, rust_session(url) as other:
        result = succeeded(command("upgrade", "--url", url, "--end-sessions-of", role, "--yes"))
        assert result.lines[0] == f"1 session of {role} in this database:"
        assert result.lines[1].split()[:2] == [str(theirs.info.backend_pid), f"{role},"]
        assert result.lines[2:] == [f"The store in schema wfc is up to date, at revision {HEAD}.", "1 session ended."]
        assert (is_open(theirs), is_open(other)) == (False, True)
        assert failed(other) == {"workflows", "execution_pointers", "scheduled_commands"}
    with rust_session(as_role(url, role)) as again:
        assert is_open(again)


def test_sessions_with_application_name_are_ended_but_never_the_own_one(command: Command, url: str) -> None:
    """Also in a store that is up to date already, and if the command has the same name."""
    assert command("upgrade", "--url", url).code == 0
    own = make_url(url).update_query_dict({"application_name": "rust"}).render_as_string(hide_password=False)
    with rust_session(url, application_name="rust") as theirs, rust_session(url, application_name="rusty") as other:
        result = succeeded(command("upgrade", "--url", own, "--end-sessions-of", "rust", "--yes"))
        assert result.lines[-1] == "1 session ended."
        assert (is_open(theirs), is_open(other)) == (False, True)


def test_sessions_in_other_databases_are_not_ended(command: Command, url: str, database_url: str) -> None:
    with psycopg.connect(database_url, application_name="rust", autocommit=True) as other:
        result = succeeded(command("upgrade", "--url", url, "--end-sessions-of", "rust"))  # asks nothing
        assert result.lines == [
            "0 sessions of rust in this database.",
            f"The store in schema wfc is up to date, at revision {HEAD}.",
            "0 sessions ended.",
        ]
        assert is_open(other)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_consent_nothing_is_changed(
    command: Command, url: str, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    with rust_session(url, application_name="rust") as theirs:
        result = command("upgrade", "--url", url, "--end-sessions-of", "rust")
        assert result.code == 1
        assert "Upgrade the store and end the sessions? [y/N]: " in result.reported_errors
        assert result.reported_errors.endswith("wfe-postgres: nothing was changed; --yes answers the question\n")
        assert is_open(theirs)
    assert revision_of(url) == "0001"


def test_with_consent_the_sessions_are_ended(command: Command, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with rust_session(url, application_name="rust") as theirs:
        assert command("upgrade", "--url", url, "--end-sessions-of", "rust").lines[-1] == "1 session ended."
        assert not is_open(theirs)
    assert revision_of(url) == HEAD


def test_role_that_may_not_end_sessions_is_told_before_the_upgrade(
    command: Command, url: str, role: str, sql: Sql
) -> None:
    with rust_session(url, application_name="rust") as theirs:
        result = command("upgrade", "--url", as_role(url, role), "--end-sessions-of", "rust", "--yes")
        assert result.code == 3
        assert result.reported_errors.startswith("wfe-postgres: this role may not end these sessions: that takes the")
        assert is_open(theirs)
    assert error_line(command("check", "--url", url), 2).startswith(
        "the store in schema wfc is at schema revision 0001"
    )
