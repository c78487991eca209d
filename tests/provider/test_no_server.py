"""Failed connection attempts: PersistenceError with a one-line message that does not contain the password."""

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
def password_url() -> Iterator[str]:
    """The URL of a server that requires a password."""
    try:
        with EmbeddedPostgres(tcp=True) as server:
            yield server.url
    except EmbeddedPostgresError as error:
        pytest.skip(f"cannot start a server with TCP: {error}")


def connect_error(url: Any, retry_budget: float = 30) -> tuple[PersistenceError, float]:
    """The error of the first call with this URL, and the seconds that it took."""
    began = time.monotonic()
    with Provider(url, retry_budget=retry_budget) as provider, pytest.raises(PersistenceError) as caught:
        provider.get_runnable_events(at(0))
    with Provider(url, retry_budget=0) as provider, pytest.raises(PersistenceError):
        provider.ensure_store_exists()
    assert PASSWORD not in shown(caught.value)
    assert isinstance(caught.value.original, Exception)
    assert "\n" not in str(caught.value)
    return caught.value, time.monotonic() - began


def test_wrong_password_is_not_retried(password_url: str) -> None:
    """The error is raised within two seconds and does not contain the password."""
    error, seconds = connect_error(make_url(password_url).set(password=PASSWORD))
    assert "password" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_missing_password_is_not_retried(password_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a URL without a password."""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    parts = make_url(password_url)
    error, seconds = connect_error(f"postgresql://{parts.username}@{parts.host}:{parts.port}/{parts.database}")
    assert "password" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_unknown_role_is_not_retried(password_url: str) -> None:
    """The server reports an unknown role as a failed password authentication."""
    error, seconds = connect_error(make_url(password_url).set(username="unknown", password=PASSWORD))
    assert not error.retryable
    assert seconds < 2


def test_missing_database_is_not_retried(password_url: str) -> None:
    """The error says that the database does not exist."""
    error, seconds = connect_error(make_url(password_url).set(database="missing"))
    assert "database does not exist" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_missing_database_on_the_test_server_is_not_retried(server: str) -> None:
    """The same for the connection method of the test suite's server, such as a Unix socket."""
    error, seconds = connect_error(make_url(server).set(database="missing_database"))
    assert "database does not exist" in str(error)
    assert not error.retryable
    assert seconds < 2


def test_invalid_ssl_mode_is_not_retried(password_url: str) -> None:
    """`sslmode=require` with a server without TLS, and a value that libpq does not know."""
    for query, part in (({"sslmode": "require"}, "TLS"), ({"sslmode": "nonsense"}, "option")):
        error, seconds = connect_error(make_url(password_url).update_query_dict(query))
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
def test_unreachable_server_is_retried_within_the_retry_budget(url: str, part: str) -> None:
    """The error is raised when the retry budget is used up, and is marked as retryable."""
    error, seconds = connect_error(url, retry_budget=0.3)
    assert part in str(error)
    assert error.retryable
    assert seconds < 5
    error, _ = connect_error(url, retry_budget=0)
    assert part in str(error)


def test_too_many_connections_is_retryable(password_url: str) -> None:
    """A transient error: the role's connection limit is reached."""
    with psycopg.connect(password_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1")
        few = make_url(password_url).set(username="few", password="few")
        with psycopg.connect(few.render_as_string(hide_password=False)):
            error, _ = connect_error(few, retry_budget=0.2)
            assert error.retryable
            assert "connection" in str(error)
