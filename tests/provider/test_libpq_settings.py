"""What libpq's environment says is respected by the provider's own engine."""

import pytest

from tests.conftest import Sql
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.connections import engines
from wfe_postgres.testing.conformance.support import at

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


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_can_be_required_by_url_arguments_or_environment(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Then a password in clear is not refused, because it is encrypted on its way."""
    assert engines._connect_arguments({}, 7).get("require_auth") == "!password"
    assert "require_auth" not in engines._connect_arguments({"sslmode": mode}, 7)
    monkeypatch.setenv("PGSSLMODE", mode)
    assert "require_auth" not in engines._connect_arguments({}, 7)


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
