"""Password changes while a provider is in use, as described in `docs/how-to/tls.md`."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.event import listens_for

from tests.provider.canaries import shown
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.testing.conformance.support import at, event

PASSWORDS = ["canary-the-first", "canary-the-second", "canary-the-third"]
TERMINATE = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'rotating'"


class Vault:
    """The store of the current password."""

    password = PASSWORDS[0]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server with password authentication and the role `rotating`."""
    with EmbeddedPostgres(tcp=True) as server:
        with server.connect() as admin:
            admin.execute(f"CREATE ROLE rotating LOGIN PASSWORD '{PASSWORDS[0]}'".encode())
            admin.execute("GRANT CREATE ON DATABASE wfe_test TO rotating")
        yield server


def rotating_engine(url: str, vault: Vault) -> Engine:
    """Return an engine that reads the password from the vault for each new connection."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg", username="rotating", password=None))

    @listens_for(engine, "do_connect")
    def supply(_dialect: object, _record: object, _arguments: object, keywords: dict[str, Any]) -> None:
        keywords["password"] = vault.password

    return engine


def test_provider_uses_the_new_password_when_the_password_is_changed(server: EmbeddedPostgres) -> None:
    """Open connections stay usable. When they are terminated, the next call connects with the new password."""
    vault = Vault()
    engine = rotating_engine(server.url, vault)
    provider = PostgresPersistenceProvider.from_engine(engine)
    provider.ensure_store_exists()
    with server.connect() as admin:
        for turn, password in enumerate(PASSWORDS[1:]):
            admin.execute(f"ALTER ROLE rotating PASSWORD '{password}'".encode())
            provider.create_event(event())
            vault.password = password
            assert admin.execute(TERMINATE).fetchone() == (1,)
            provider.create_event(event())
            assert len(provider.get_runnable_events(at(0))) == 2 * turn + 2
            assert not any(password in repr(it) for it in (provider, engine, engine.url))

        admin.execute("ALTER ROLE rotating PASSWORD 'another'")
        admin.execute(TERMINATE)
        with pytest.raises(PersistenceError, match="password") as caught:
            provider.get_runnable_events(at(0))
        assert not caught.value.retryable
        assert not any(password in shown(caught.value) for password in PASSWORDS)
    engine.dispose()
