"""The arguments of the provider's constructor, and the options that it passes to libpq and to the pool."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.pool import NullPool, QueuePool

from tests.conftest import Sql
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

PASSWORD = "canary-of-the-password"
BAD_URLS: list[Any] = [
    "",
    "nothing",
    "localhost:5433/wfe_test",
    f"wfe:{PASSWORD}@localhost/wfe_test",
    f"host=localhost password={PASSWORD}",
    f"http://wfe:{PASSWORD}@localhost/wfe_test",
    f"mysql://wfe:{PASSWORD}@localhost/wfe_test",
    f"sqlite:///{PASSWORD}.db",
    f"postgresql+psycopg2://wfe:{PASSWORD}@localhost/wfe_test",
    f"postgresql+asyncpg://wfe:{PASSWORD}@localhost/wfe_test",
    f"postgresql+psycopg_async://wfe:{PASSWORD}@localhost/wfe_test",
    f"postgresql://wfe:{PASSWORD}@localhost:port/wfe_test",
    f"postgresql:/wfe:{PASSWORD}@localhost/wfe_test",
    URL.create("mysql", username="wfe", password=PASSWORD),
    None,
    5432,
    f"postgresql://wfe:{PASSWORD}@localhost/wfe_test".encode(),
]
BAD_SCHEMAS: list[Any] = [
    "",
    "Wfc",
    "WFC",
    "a b",
    "a-b",
    "a.b",
    'a"b',
    "a'b",
    "a;b",
    "1a",
    "$a",
    "a$b",
    "ä",
    "a\0",
    "a\n",
    "pg_wfc",
    "x" * 64,
    None,
    7,
    ["wfc"],
]


class StopError(Exception):
    """Raised in place of connecting."""


def connect_params(url: str | URL, **options: Any) -> dict[str, Any]:
    """The parameters that a provider with this URL passes to `psycopg.connect`."""
    params: dict[str, Any] = {}

    def stop(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        params.update(keywords)
        raise StopError

    with PostgresPersistenceProvider(url, retry_budget=0, **options) as provider:
        event.listen(provider.engine, "do_connect", stop)
        with pytest.raises(StopError):
            provider.get_events("paid", "1", at(0))
    return params


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_supported_url_schemes_are_accepted(database_url: str, scheme: str) -> None:
    """Each supported scheme, as a string and as a SQLAlchemy URL."""
    text = database_url.replace("postgresql", scheme, 1)
    for url in (text, make_url(text)):
        with PostgresPersistenceProvider(url) as provider:
            assert provider.get_event(provider.create_event(published())).event_name == "paid"


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: str(url).replace(PASSWORD, "***"))
def test_invalid_url_is_rejected(url: Any) -> None:
    """A ValueError that shows the expected form and does not contain the password."""
    with pytest.raises(ValueError, match="postgresql://") as caught:
        PostgresPersistenceProvider(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_repr_hides_the_password() -> None:
    """The `repr` of the provider, its engine and its URL."""
    provider = PostgresPersistenceProvider(f"postgresql://wfe:{PASSWORD}@localhost/wfe_test")
    assert "localhost" in repr(provider)
    assert PASSWORD not in repr(provider) + str(provider) + repr(provider.engine) + repr(provider.engine.url)
    provider.close()


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=repr)
def test_invalid_schema_is_rejected(schema: Any) -> None:
    """A ValueError from the constructor and from `from_engine`, without connecting."""
    url = "postgresql+psycopg://nobody@nowhere.invalid/none"
    engine = create_engine(url)
    with pytest.raises(ValueError, match="schema"):
        PostgresPersistenceProvider(url, schema=schema)
    with pytest.raises(ValueError, match="schema"):
        PostgresPersistenceProvider.from_engine(engine, schema=schema)
    engine.dispose()


def test_reserved_key_word_as_schema_is_rejected(sql: Sql) -> None:
    """Every key word that the server reserves is rejected, because it would have to be quoted."""
    reserved = sql("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")
    assert len(reserved) > 90
    accepted = []
    for (word,) in reserved:
        try:
            PostgresPersistenceProvider("postgresql://nobody@nowhere.invalid/none", schema=word).close()
        except ValueError:
            continue
        accepted.append(word)
    assert accepted == []


@pytest.mark.parametrize("schema", ["wfc", "_", "a1", "x" * 63])
def test_valid_schema_is_used_for_all_tables(empty_database_url: str, schema: str) -> None:
    """The tables are created in the schema, and calls use them."""
    with PostgresPersistenceProvider(empty_database_url, schema=schema) as provider:
        provider.ensure_store_exists()
        provider.create_event(published())
        assert len(provider.get_runnable_events(at(0))) == 1
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'events'").fetchall()
    assert rows == [(schema,)]


def test_providers_with_different_schemas_are_independent(
    provider: PostgresPersistenceProvider, database_url: str
) -> None:
    """Each provider reads its own schema, also in a caller's transaction."""
    with PostgresPersistenceProvider(database_url, schema="other") as other:
        other.ensure_store_exists()
        id = other.create_event(published())
        assert provider.get_runnable_events(at(0)) == []
        with other.transaction() as tx, psycopg.connect(database_url) as connection:
            assert tx.get_runnable_events(at(0)) == [id]
            assert other.using(connection).get_runnable_events(at(0)) == [id]
            assert provider.using(connection).get_runnable_events(at(0)) == []


def test_application_name_in_the_url_overrides_the_default(database_url: str) -> None:
    """`wfe_postgres` by default, and the value in the URL otherwise."""
    query = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    named = make_url(database_url).update_query_dict({"application_name": "orders"})
    for url, name in ((make_url(database_url), "wfe_postgres"), (named, "orders")):
        with PostgresPersistenceProvider(url) as provider, provider.engine.connect() as connection:
            assert connection.exec_driver_sql(query).scalar_one() == name


@pytest.mark.parametrize(
    ("query", "environment", "expected"),
    [
        ("", {}, "!password"),
        ("?sslmode=prefer", {}, "!password"),
        ("?sslmode=disable", {}, "!password"),
        ("?sslmode=allow", {}, "!password"),
        ("?sslmode=require", {}, None),
        ("?sslmode=verify-ca", {}, None),
        ("?sslmode=verify-full", {}, None),
        ("", {"PGSSLMODE": "verify-full"}, None),
        ("", {"PGSSLMODE": "prefer"}, "!password"),
        ("?sslmode=prefer", {"PGSSLMODE": "require"}, "!password"),
        ("?require_auth=scram-sha-256", {}, "scram-sha-256"),
        ("?sslmode=disable&require_auth=password", {}, "password"),
        ("", {"PGREQUIREAUTH": "scram-sha-256"}, None),
    ],
)
def test_clear_text_passwords_are_disabled_unless_tls_is_required(
    query: str, environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clear text passwords are disabled unless TLS is required or the user sets `require_auth`."""
    for name in ("PGSSLMODE", "PGREQUIREAUTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert connect_params(f"postgresql://wfe@localhost/wfe_test{query}").get("require_auth") == expected


def test_url_options_override_defaults(database_url: str) -> None:
    """Options of the URL override the library's defaults, and `connect_args` override both."""
    assert connect_params(
        f"{database_url}&connect_timeout=7" if "?" in database_url else f"{database_url}?connect_timeout=7"
    )["connect_timeout"] in (7, "7")
    assert connect_params(database_url, connect_args={"application_name": "orders"})["application_name"] == "orders"
    assert connect_params(database_url, call_timeout=20)["connect_timeout"] == 5
    assert connect_params(database_url, call_timeout=3)["connect_timeout"] == 2  # the minimum of libpq
    assert connect_params(database_url)["client_encoding"] == "utf8"


def test_connection_sends_no_options_parameter(database_url: str) -> None:
    """PgBouncer rejects the startup parameter `options`."""
    assert "options" not in connect_params(database_url)


@contextmanager
def cleartext_server() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server without TLS that requests a clear text password, and the replies that it receives."""
    received: list[bytes] = []

    def ask(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            while True:
                length = int.from_bytes(client.recv(4))
                code = client.recv(length - 4)
                if int.from_bytes(code[:4]) not in (80877103, 80877104):  # SSLRequest, GSSENCRequest
                    break
                client.sendall(b"N")
            client.sendall(b"R" + (8).to_bytes(4) + (3).to_bytes(4))  # AuthenticationCleartextPassword
            received.append(client.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=ask, args=(listener,))
        thread.start()
        yield listener.getsockname()[1], received
        thread.join()


def test_clear_text_password_request_is_rejected() -> None:
    """The password is not sent to a server that declines TLS and requests it in clear text, and the error says why."""
    with cleartext_server() as (port, received):
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{port}/wfe_test"
        with PostgresPersistenceProvider(url) as provider, pytest.raises(PersistenceError, match="in clear") as caught:
            provider.get_events("paid", "1", at(0))
    assert not caught.value.retryable
    assert received == [b""]


def test_require_auth_password_in_the_url_allows_clear_text() -> None:
    """The server receives the password, which also verifies the test server of the previous test."""
    with cleartext_server() as (port, received):
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{port}/wfe_test?require_auth=password"
        with PostgresPersistenceProvider(url, retry_budget=0) as provider, pytest.raises(PersistenceError):
            provider.get_events("paid", "1", at(0))
    assert PASSWORD.encode() in b"".join(received)


def test_pool_options_override_the_defaults(database_url: str) -> None:
    """Ten connections without overflow by default; pool options of `create_engine` can be passed."""
    with PostgresPersistenceProvider(database_url) as provider:
        pool = provider.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.size() == 10
        assert pool._max_overflow == 0
    with PostgresPersistenceProvider(database_url, pool_size=3, max_overflow=2, pool_timeout=0.1) as provider:
        pool = provider.engine.pool
        assert isinstance(pool, QueuePool)
        assert (pool.size(), pool._max_overflow, pool.timeout()) == (3, 2, 0.1)
    with PostgresPersistenceProvider(database_url, poolclass=NullPool) as provider:
        assert isinstance(provider.engine.pool, NullPool)
        provider.create_event(published())
        assert len(provider.get_runnable_events(at(0))) == 1


def test_pool_timeout_is_retryable(database_url: str) -> None:
    """When no connection is available within the timeout, the call raises a retryable PersistenceError."""
    with PostgresPersistenceProvider(database_url, pool_size=1, pool_timeout=0.1) as provider:
        with provider.transaction() as tx:
            tx.get_runnable_events(at(0))
            with pytest.raises(PersistenceError, match="pool") as caught:
                provider.get_runnable_events(at(0))
        assert caught.value.retryable
        assert provider.get_runnable_events(at(0)) == []


@pytest.mark.parametrize("keywords", [{"command_lease": 0}, {"command_lease": -1}, {"retry_budget": -1}])
def test_invalid_keyword_arguments_are_rejected(keywords: dict[str, Any]) -> None:
    """A ValueError from the constructor and from `from_engine`."""
    engine = create_engine("postgresql+psycopg://nobody@nowhere.invalid/none")
    with pytest.raises(ValueError, match=next(iter(keywords))):
        PostgresPersistenceProvider("postgresql://nobody@nowhere.invalid/none", **keywords)
    with pytest.raises(ValueError, match=next(iter(keywords))):
        PostgresPersistenceProvider.from_engine(engine, **keywords)
    engine.dispose()
