"""What would fail again is tried once: counted at the wire, or by the server's own log."""

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
"""Text that does not compress."""


@dataclass(frozen=True)
class Obstacle:
    """What makes the server refuse an event, by `ALTER` and the like; and as which error."""

    sqlstate: str
    by: str
    kind: type[PersistenceError] = PersistenceError


OBSTACLES = {
    "a check": Obstacle("23514", "ALTER TABLE wfc.events ADD CHECK (event_key = '')"),
    "a cast": Obstacle("22P02", "ALTER TABLE wfc.events ADD CHECK (event_key::int > 0)"),
    "a division": Obstacle("22012", "ALTER TABLE wfc.events ADD CHECK (1 / length(left(event_key, 0)) > 0)"),
    "a limit of the server's": Obstacle("54000", "CREATE INDEX ON wfc.events ((event_data ->> 'noise'))"),
    "a missing privilege": Obstacle(
        "42501", "CREATE ROLE {role}; GRANT USAGE ON SCHEMA wfc TO {role}; ALTER DATABASE {database} SET role = {role}"
    ),
    "a missing table": Obstacle("42P01", "DROP TABLE wfc.events", StoreNotReadyError),
    "a missing schema": Obstacle("42P01", "DROP SCHEMA wfc CASCADE", StoreNotReadyError),
    "a missing column": Obstacle("42703", "ALTER TABLE wfc.events DROP COLUMN event_key", StoreNotReadyError),
    "a statement timeout": Obstacle(
        "57014",
        "CREATE FUNCTION wfc.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$;"
        "CREATE TRIGGER slow BEFORE INSERT ON wfc.events FOR EACH ROW EXECUTE FUNCTION wfc.slow();"
        "ALTER DATABASE {database} SET statement_timeout = '100ms'",
    ),
}


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """The name of a role that the test may create."""
    name = f"wfe_{time.monotonic_ns():x}"
    yield name
    cluster.sql(f"DROP ROLE IF EXISTS {name}")


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_a_refused_statement_is_sent_once(role: str, database: str, obstacle: Obstacle) -> None:
    """Typed, with its SQLSTATE, and not said to be passing."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(obstacle.by.format(role=role, database=make_url(database).database).encode())
    with Proxy(database) as proxy, Provider(proxy.url) as provider:
        with pytest.raises(PersistenceError):  # also has SQLAlchemy ask its questions
            provider.create_event(event(event_data={"noise": NOISE}))
        proxy.reset()
        with pytest.raises(PersistenceError) as caught:
            provider.create_event(event(event_data={"noise": NOISE}))
        assert proxy.traffic.statements == 1
    assert type(caught.value) is obstacle.kind
    assert caught.value.sqlstate == obstacle.sqlstate
    assert not caught.value.retryable


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedPostgres]:
    """A server that asks for passwords."""
    with EmbeddedPostgres(tcp=True) as server:
        yield server


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a wrong password": ({"password": "wrong"}, "password authentication failed"),
    "a missing database": ({"database": "nowhere"}, 'database "nowhere" does not exist'),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", [lambda it: it.get_runnable_events(at(0)), lambda it: it.ensure_store_exists()])
def test_a_refused_connection_is_asked_for_once(
    guarded: EmbeddedPostgres, name: str, call: Callable[[Provider], object]
) -> None:
    """In under two seconds; the server has seen one attempt."""
    parts, logged = REFUSED[name]
    mark = guarded.log_mark()
    began = time.monotonic()
    with Provider(make_url(guarded.url).set(**parts)) as provider, pytest.raises(PersistenceError) as caught:  # type: ignore[arg-type]
        call(provider)
    assert time.monotonic() - began < 2
    assert not caught.value.retryable
    assert guarded.log_since(mark).count(logged) == 1


def test_a_call_that_kills_every_connection(database_url: str) -> None:
    """A payload that is too much for something on the way looks like a lost connection: the tries come to an end."""
    with TcpProxy(database_url) as proxy, Provider(proxy.url, retry_budget=1.0) as provider:
        provider.create_event(event(id="small"))
        proxy.fault = fault = CutLarge(100_000)
        before = proxy.connections
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError) as caught:
            provider.create_event(event(id="large", event_data="x" * 200_000))
        assert time.monotonic() - began < 5
        assert caught.value.ids == ("large",)
        assert 2 <= fault.cuts <= 50, "the pauses grow, so a second has room for few"
        assert proxy.connections - before <= fault.cuts + 1
        assert has_event(provider, "small")
        proxy.fault = PASS
        assert not has_event(provider, "large")
