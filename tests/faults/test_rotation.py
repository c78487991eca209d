"""Credentials that change while a provider lives: the recipe of `docs/how-to/tls.md`."""

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
    """Where passwords are kept."""

    password = PASSWORDS[0]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """One that asks for passwords, with a role of ours."""
    with EmbeddedPostgres(tcp=True) as server:
        with server.connect() as admin:
            admin.execute(f"CREATE ROLE rotating LOGIN PASSWORD '{PASSWORDS[0]}'".encode())
            admin.execute("GRANT CREATE ON DATABASE wfe_test TO rotating")
        yield server


def rotating_engine(url: str, vault: Vault) -> Engine:
    """An engine that asks for the password whenever it connects."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg", username="rotating", password=None))

    @listens_for(engine, "do_connect")
    def supply(_dialect: object, _record: object, _arguments: object, keywords: dict[str, Any]) -> None:
        keywords["password"] = vault.password

    return engine


def test_a_password_that_is_changed(server: EmbeddedPostgres) -> None:
    """The connections there are live on; once they are gone, the next call uses the new one and does not fail."""
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
