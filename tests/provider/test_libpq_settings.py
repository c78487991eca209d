"""What libpq's environment says is respected by the provider's own engine."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.conftest import Sql
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.connections import engines
from wfe_postgres.connections.pools import driver_connection
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

NAMES = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"


@pytest.mark.parametrize("name", [None, "shop"])
def test_application_name_of_the_environment_is_kept(
    database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    if name:
        monkeypatch.setenv("PGAPPNAME", name)
    with Provider(database_url) as provider:
        provider.get_runnable_events(at(0))
        assert (name or "wfe_postgres",) in sql(NAMES)


def test_connect_timeout_of_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines._connect_arguments({}, 7)["connect_timeout"] == 7
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in engines._connect_arguments({}, 7)


def test_keepalives_begin_after_a_minute_unless_the_url_says_otherwise(database_url: str) -> None:
    assert engines._connect_arguments({}, 7)["keepalives_idle"] == 60
    assert "keepalives_idle" not in engines._connect_arguments({"keepalives_idle": "600"}, 7)
    with Provider(database_url) as provider, provider.engine.connect() as connection:
        assert "keepalives_idle=60" in driver_connection(connection).info.dsn


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_can_be_required_by_url_arguments_or_environment(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Then a password in clear is not refused, because it is encrypted on its way."""
    assert engines._connect_arguments({}, 7).get("require_auth") == "!password"
    assert "require_auth" not in engines._connect_arguments({"sslmode": mode}, 7)
    monkeypatch.setenv("PGSSLMODE", mode)
    assert "require_auth" not in engines._connect_arguments({}, 7)


SERVICES = """
[plain]
user=somebody
[timed]
connect_timeout=3
[encrypted]
sslmode=require
[scram]
require_auth=scram-sha-256
"""


@pytest.fixture(params=["environment", "url"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Selects a service of libpq's file, by the environment or by an option; returns the options."""
    (tmp_path / "services").write_text(SERVICES)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))

    def select(name: str) -> dict[str, str]:
        if request.param == "url":
            return {"service": name}
        monkeypatch.setenv("PGSERVICE", name)
        return {}

    return select


def test_service_file_is_kept(service: Any) -> None:
    """What it says is not overridden, and whether TLS is required is decided after it was read."""
    expected = {"connect_timeout": 7, "require_auth": "!password"}
    kept_of = {"plain": "", "timed": "connect_timeout", "encrypted": "require_auth", "scram": "require_auth"}
    for name, kept in kept_of.items():
        arguments = engines._connect_arguments(service(name), 7)
        assert {it: arguments.get(it) for it in expected} == expected | ({kept: None} if kept else {})
    assert engines._connect_arguments(service("encrypted") | {"sslmode": "prefer"}, 7)["require_auth"] == "!password"


def test_service_gives_host_and_database(database_url: str, service: Any, tmp_path: Path) -> None:
    url = make_url(database_url)
    parts = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database, "password": url.password}
    lines = [f"{name}={value}" for name, value in (parts | dict(url.query)).items() if value]
    (tmp_path / "services").write_text("\n".join(["[shop]", *lines, ""]))
    with Provider(make_url("postgresql://").update_query_dict(service("shop"))) as provider:
        id = provider.create_event(published())
        assert provider.get_event(id).id == id


def test_service_that_is_not_in_the_file_is_named(service: Any) -> None:
    """At the first call, as every other failure to connect."""
    with Provider(make_url("postgresql://").update_query_dict(service("unknown"))) as provider:
        with pytest.raises(PersistenceError, match="libpq's service file has no service unknown") as caught:
            provider.get_runnable_events(at(0))
        assert not caught.value.retryable


def test_system_certificates_require_tls() -> None:
    """libpq's default for sslmode is then verify-full."""
    assert "require_auth" not in engines._connect_arguments({"sslrootcert": "system"}, 7)


def test_connect_failure_that_is_not_recognized_is_tried_a_few_times(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers in another language may have refused the role; the call ends long before its budget."""
    tried = []

    def connect(*_: object, **__: object) -> None:
        import psycopg

        tried.append(1)
        raise psycopg.OperationalError("connection failed: FATAL:  Passwort-Authentifizierung fehlgeschlagen")

    with Provider(database_url) as provider:
        monkeypatch.setattr("wfe_postgres.connections.deadlines.BoundedConnection.connect", connect)
        with pytest.raises(PersistenceError, match="not recognized") as caught:
            provider.get_runnable_events(at(0))
    assert "Passwort" in str(caught.value.original)
    assert len(tried) == 8
