"""A server that is not there or refuses: typed, in one line, and never the password."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.provider.canaries import PASSWORD, shown
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from wfe_postgres.testing.conformance.support import at

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The URL of a server that asks for a password."""
    try:
        with EmbeddedPostgres(tcp=True) as server:
            yield server.url
    except EmbeddedPostgresError as error:
        pytest.skip(f"needs a server of its own: {error}")


def connect_error(url: Any, retry_budget: float = 30) -> tuple[PersistenceError, float]:
    """What a first call on this URL raises, and after how many seconds."""
    began = time.monotonic()
    with Provider(url, retry_budget=retry_budget) as provider, pytest.raises(PersistenceError) as caught:
        provider.get_runnable_events(at(0))
    with Provider(url, retry_budget=0) as provider, pytest.raises(PersistenceError):
        provider.ensure_store_exists()
    assert PASSWORD not in shown(caught.value)
    assert isinstance(caught.value.original, Exception)
    assert "\n" not in str(caught.value)
    return caught.value, time.monotonic() - began


def test_a_wrong_password(guarded: str) -> None:
    """Typed, at once, and the password is nowhere."""
    error, seconds = connect_error(make_url(guarded).set(password=PASSWORD))
    assert "password" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_no_password(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same."""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    given = make_url(guarded)
    error, seconds = connect_error(f"postgresql://{given.username}@{given.host}:{given.port}/{given.database}")
    assert "password" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_an_unknown_user(guarded: str) -> None:
    """To the server it is the same as a wrong password."""
    error, seconds = connect_error(make_url(guarded).set(username="nobody", password=PASSWORD))
    assert not error.retryable
    assert seconds < 2


def test_a_missing_database(guarded: str) -> None:
    """Says that it has to be created."""
    error, seconds = connect_error(make_url(guarded).set(database="nowhere"))
    assert "database does not exist" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_a_missing_database_on_the_suites_server(server: str) -> None:
    """The same, by whatever way the suite's own server is reached."""
    error, seconds = connect_error(make_url(server).set(database="nowhere_to_be_found"))
    assert "database does not exist" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_a_host_that_may_not_connect(guarded: str) -> None:
    """A libpq option that it does not know, or TLS that the server has not."""
    for query, part in (({"sslmode": "require"}, "TLS"), ({"sslmode": "nonsense"}, "option")):
        error, seconds = connect_error(make_url(guarded).update_query_dict(query))
        assert part in str(error)
        assert not error.retryable
        assert seconds < 2


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"postgresql://wfe:{PASSWORD}@127.0.0.1:1/wfe_test", "is PostgreSQL running"),
        (f"postgresql://wfe:{PASSWORD}@/wfe_test?host=/nonexistent", "is PostgreSQL running"),
        (f"postgresql://wfe:{PASSWORD}@nowhere.invalid/wfe_test", "name"),
    ],
)
def test_no_server(url: str, part: str) -> None:
    """Tried again until the budget is spent, and then said."""
    error, seconds = connect_error(url, retry_budget=0.3)
    assert part in str(error)
    assert error.retryable
    assert seconds < 5
    error, _ = connect_error(url, retry_budget=0)
    assert part in str(error)


def test_a_server_with_no_connection_left(guarded: str) -> None:
    """Passing: it is tried again, and a freed one serves."""
    with psycopg.connect(guarded, autocommit=True) as admin:
        admin.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1")
        few = make_url(guarded).set(username="few", password="few")
        with psycopg.connect(few.render_as_string(hide_password=False)):
            error, _ = connect_error(few, retry_budget=0.2)
            assert error.retryable
            assert "connection" in str(error)
