"""Permanent errors are not retried, as counted by a proxy or in the log of the server."""

import random
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import make_url

from tests.faults.kit.cluster import Cluster
from tests.faults.kit.proxy import PASS, CutLarge, TcpProxy
from tests.protocol.proxy import Proxy
from wfe_postgres import OutcomeUnknownError, PersistenceError, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.testing.conformance.support import at, event, has_event

Provider = PostgresPersistenceProvider

NOISE = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=10_000))
"""Text that does not compress, larger than an index row may be."""


@dataclass(frozen=True)
class Cause:
    """Statements that make the server reject an event, and the expected error."""

    sqlstate: str
    statements: str
    kind: type[PersistenceError] = PersistenceError


CAUSES = {
    "a check": Cause("23514", "ALTER TABLE wfc.events ADD CHECK (event_key = '')"),
    "a cast": Cause("22P02", "ALTER TABLE wfc.events ADD CHECK (event_key::int > 0)"),
    "a division": Cause("22012", "ALTER TABLE wfc.events ADD CHECK (1 / length(left(event_key, 0)) > 0)"),
    "an index row size limit": Cause("54000", "CREATE INDEX ON wfc.events ((event_data ->> 'noise'))"),
    "a missing privilege": Cause(
        "42501", "CREATE ROLE {role}; GRANT USAGE ON SCHEMA wfc TO {role}; ALTER DATABASE {database} SET role = {role}"
    ),
    "a missing table": Cause("42P01", "DROP TABLE wfc.events", StoreNotReadyError),
    "a missing schema": Cause("42P01", "DROP SCHEMA wfc CASCADE", StoreNotReadyError),
    "a missing column": Cause("42703", "ALTER TABLE wfc.events DROP COLUMN event_key", StoreNotReadyError),
    "a statement timeout": Cause(
        "57014",
        "CREATE FUNCTION wfc.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$;"
        "CREATE TRIGGER slow BEFORE INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION wfc.slow();"
        "ALTER DATABASE {database} SET statement_timeout = '100ms'",
    ),
}


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """A role name that is unique to the test; the role is dropped after the test."""
    name = f"wfe_{time.monotonic_ns():x}"
    yield name
    cluster.sql(f"DROP ROLE IF EXISTS {name}")


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_rejected_statement_is_not_retried(role: str, database: str, cause: Cause) -> None:
    """The error has the expected type and SQLSTATE and is not retryable."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(cause.statements.format(role=role, database=make_url(database).database).encode())
    with Proxy(database) as proxy, Provider(proxy.url) as provider:
        with pytest.raises(PersistenceError):  # the first connection also sends the queries of SQLAlchemy
            provider.create_event(event(event_data={"noise": NOISE}))
        proxy.reset()
        with pytest.raises(PersistenceError) as caught:
            provider.create_event(event(event_data={"noise": NOISE}))
        assert proxy.traffic.statements == 1
    assert type(caught.value) is cause.kind
    assert caught.value.sqlstate == cause.sqlstate
    assert not caught.value.retryable


@pytest.fixture(scope="module")
def password_server() -> Iterator[EmbeddedPostgres]:
    """A server with password authentication."""
    with EmbeddedPostgres(tcp=True) as server:
        yield server


REJECTED_CONNECTIONS: dict[str, tuple[dict[str, str], str]] = {
    "a wrong password": ({"password": "wrong"}, "password authentication failed"),
    "a missing database": ({"database": "nowhere"}, 'database "nowhere" does not exist'),
}


@pytest.mark.parametrize("name", REJECTED_CONNECTIONS)
@pytest.mark.parametrize("call", [lambda it: it.get_runnable_events(at(0)), lambda it: it.ensure_store_exists()])
def test_rejected_connection_is_not_retried(
    password_server: EmbeddedPostgres, name: str, call: Callable[[Provider], object]
) -> None:
    """The call fails within two seconds, and the server logs one attempt."""
    parts, logged = REJECTED_CONNECTIONS[name]
    mark = password_server.log_mark()
    began = time.monotonic()
    with Provider(make_url(password_server.url).set(**parts)) as provider, pytest.raises(PersistenceError) as caught:  # type: ignore[arg-type]
        call(provider)
    assert time.monotonic() - began < 2
    assert not caught.value.retryable
    assert password_server.log_since(mark).count(logged) == 1


def test_call_that_always_loses_its_connection_ends_within_the_retry_budget(database_url: str) -> None:
    """A proxy resets every connection with a large payload, which is like a lost connection to the provider."""
    with TcpProxy(database_url) as proxy, Provider(proxy.url, retry_budget=1.0) as provider:
        provider.create_event(event(id="small"))
        proxy.fault = fault = CutLarge(100_000)
        before = proxy.connections
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError) as caught:
            provider.create_event(event(id="large", event_data="x" * 200_000))
        assert time.monotonic() - began < 5
        assert caught.value.ids == ("large",)
        assert 2 <= fault.cuts <= 50, "the backoff allows few attempts within the retry budget"
        assert proxy.connections - before <= fault.cuts + 1
        assert has_event(provider, "small")
        proxy.fault = PASS
        assert not has_event(provider, "large")
