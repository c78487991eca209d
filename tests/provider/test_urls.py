"""What the provider's constructor takes, and what it tells libpq and the pool."""

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
    """Raised instead of connecting."""


def told(url: str | URL, **options: Any) -> dict[str, Any]:
    """What libpq would be told by a provider on this URL."""
    given: dict[str, Any] = {}

    def stop(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        given.update(keywords)
        raise StopError

    with PostgresPersistenceProvider(url, retry_budget=0, **options) as provider:
        event.listen(provider.engine, "do_connect", stop)
        with pytest.raises(StopError):
            provider.get_events("paid", "1", at(0))
    return given


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_forms_of_a_url(database_url: str, scheme: str) -> None:
    """Each of the schemes, as text and as a SQLAlchemy URL."""
    text = database_url.replace("postgresql", scheme, 1)
    for url in (text, make_url(text)):
        with PostgresPersistenceProvider(url) as provider:
            assert provider.get_event(provider.create_event(published())).event_name == "paid"


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: str(url).replace(PASSWORD, "***"))
def test_a_bad_url(url: Any) -> None:
    """A ValueError that shows what a good one looks like and repeats nothing of the bad one."""
    with pytest.raises(ValueError, match="postgresql://") as caught:
        PostgresPersistenceProvider(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_repr_hides_the_password() -> None:
    """The provider's and its engine's."""
    provider = PostgresPersistenceProvider(f"postgresql://wfe:{PASSWORD}@localhost/wfe_test")
    assert "localhost" in repr(provider)
    assert PASSWORD not in repr(provider) + str(provider) + repr(provider.engine) + repr(provider.engine.url)
    provider.close()


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=repr)
def test_a_bad_schema(schema: Any) -> None:
    """Refused by both constructors, before there is a connection."""
    url = "postgresql+psycopg://nobody@nowhere.invalid/none"
    engine = create_engine(url)
    with pytest.raises(ValueError, match="schema"):
        PostgresPersistenceProvider(url, schema=schema)
    with pytest.raises(ValueError, match="schema"):
        PostgresPersistenceProvider.from_engine(engine, schema=schema)
    engine.dispose()


def test_a_schema_that_is_a_key_word(sql: Sql) -> None:
    """PostgreSQL would have to quote `user` and `order`: refused, whichever words this server reserves."""
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
def test_a_good_schema(empty_database_url: str, schema: str) -> None:
    """It is where the tables lie, and the library works there."""
    with PostgresPersistenceProvider(empty_database_url, schema=schema) as provider:
        provider.ensure_store_exists()
        provider.create_event(published())
        assert len(provider.get_runnable_events(at(0))) == 1
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'events'").fetchall()
    assert rows == [(schema,)]


def test_two_schemas_in_one_database(provider: PostgresPersistenceProvider, database_url: str) -> None:
    """Each provider sees its own, in a caller's transaction too."""
    with PostgresPersistenceProvider(database_url, schema="other") as other:
        other.ensure_store_exists()
        id = other.create_event(published())
        assert provider.get_runnable_events(at(0)) == []
        with other.transaction() as tx, psycopg.connect(database_url) as connection:
            assert tx.get_runnable_events(at(0)) == [id]
            assert other.using(connection).get_runnable_events(at(0)) == [id]
            assert provider.using(connection).get_runnable_events(at(0)) == []


def test_the_application_name(database_url: str) -> None:
    """An operator sees who it is; an application may say so itself."""
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
def test_require_auth(
    query: str, environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No password in clear unless TLS is certain or the URL asks for it."""
    for name in ("PGSSLMODE", "PGREQUIREAUTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert told(f"postgresql://wfe@localhost/wfe_test{query}").get("require_auth") == expected


def test_what_the_url_says_stands(database_url: str) -> None:
    """Its own options win over the library's, and `connect_args` over both."""
    assert told(f"{database_url}&connect_timeout=7" if "?" in database_url else f"{database_url}?connect_timeout=7")[
        "connect_timeout"
    ] in (7, "7")
    assert told(database_url, connect_args={"application_name": "orders"})["application_name"] == "orders"
    assert told(database_url, call_timeout=20)["connect_timeout"] == 5
    assert told(database_url, call_timeout=3)["connect_timeout"] == 2  # the least that libpq knows
    assert told(database_url)["client_encoding"] == "utf8"


def test_no_session_state(database_url: str) -> None:
    """PgBouncer refuses `options`: none are sent."""
    assert "options" not in told(database_url)


@contextmanager
def curious_server() -> Iterator[tuple[int, list[bytes]]]:
    """A server without TLS that asks for the password in clear, and what it is told then."""
    heard: list[bytes] = []

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
            heard.append(client.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=ask, args=(listener,))
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join()


def test_a_password_is_not_talked_out_of_it() -> None:
    """A server that declines TLS and asks for the password in clear does not get it, and the error says why."""
    with curious_server() as (port, heard):
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{port}/wfe_test"
        with PostgresPersistenceProvider(url) as provider, pytest.raises(PersistenceError, match="in clear") as caught:
            provider.get_events("paid", "1", at(0))
    assert not caught.value.retryable
    assert heard == [b""]


def test_the_url_may_ask_for_it() -> None:
    """The measure itself."""
    with curious_server() as (port, heard):
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{port}/wfe_test?require_auth=password"
        with PostgresPersistenceProvider(url, retry_budget=0) as provider, pytest.raises(PersistenceError):
            provider.get_events("paid", "1", at(0))
    assert PASSWORD.encode() in b"".join(heard)


def test_the_pool(database_url: str) -> None:
    """Ten connections and no more, unless the application says otherwise."""
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


def test_an_exhausted_pool(database_url: str) -> None:
    """Once its timeout is over the call is refused, and says that it may be made again."""
    with PostgresPersistenceProvider(database_url, pool_size=1, pool_timeout=0.1) as provider:
        with provider.transaction() as tx:
            tx.get_runnable_events(at(0))
            with pytest.raises(PersistenceError, match="pool") as caught:
                provider.get_runnable_events(at(0))
        assert caught.value.retryable
        assert provider.get_runnable_events(at(0)) == []


@pytest.mark.parametrize("keywords", [{"command_lease": 0}, {"command_lease": -1}, {"retry_budget": -1}])
def test_bad_keywords(keywords: dict[str, Any]) -> None:
    """Refused by both constructors."""
    engine = create_engine("postgresql+psycopg://nobody@nowhere.invalid/none")
    with pytest.raises(ValueError, match=next(iter(keywords))):
        PostgresPersistenceProvider("postgresql://nobody@nowhere.invalid/none", **keywords)
    with pytest.raises(ValueError, match=next(iter(keywords))):
        PostgresPersistenceProvider.from_engine(engine, **keywords)
    engine.dispose()
