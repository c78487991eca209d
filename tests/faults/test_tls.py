"""TLS cannot be talked down, nor a password talked out."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.faults.kit.impostor import CLEARTEXT, Script, asks, garbage, impostor, says
from tests.faults.kit.proxy import TcpProxy
from tests.faults.kit.tls import Authority, TlsServer, tls_server
from tests.provider.canaries import CANARY, PASSWORD, shown
from tests.provider.databases import wait_until
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.testing.conformance.support import at

Provider = PostgresPersistenceProvider


def hang_up(client: socket.socket) -> None:
    """Says nothing at all."""
    client.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require", "verify-full"])
def test_no_password_in_clear(sslmode: str) -> None:
    """Whatever the URL says of TLS, an impostor that declines it and asks for the password hears none."""
    with impostor(asks(CLEARTEXT)) as it:
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{it.port}/wfe_test?sslmode={sslmode}"
        with Provider(url) as provider:
            for call in (lambda: provider.get_runnable_events(at(0)), provider.ensure_store_exists):
                with pytest.raises(PersistenceError, match=r"in clear|TLS") as caught:
                    call()
                assert not caught.value.retryable
                assert PASSWORD not in shown(caught.value)
    assert it.clients
    assert it.passwords == []


@pytest.mark.parametrize("script", [garbage, hang_up, says(f"{CANARY} {PASSWORD}")])
def test_what_is_no_server(script: Script) -> None:
    """Nonsense, silence and lies are a typed error within the budget, which repeats nothing that was said."""
    with impostor(script) as it:
        url = f"postgresql://wfe:{PASSWORD}@127.0.0.1:{it.port}/wfe_test"
        with Provider(url, retry_budget=0.2, call_timeout=5) as provider:
            began = time.monotonic()
            with pytest.raises(PersistenceError, match="cannot connect") as caught:
                provider.get_runnable_events(at(0))
            assert time.monotonic() - began < 5
        assert CANARY not in shown(caught.value)
        assert PASSWORD not in shown(caught.value)
    assert it.passwords == []


def test_an_impostor_that_comes_later() -> None:
    """A provider that has worked does not trust whoever answers in the server's place."""
    with (
        EmbeddedPostgres(tcp=True) as server,
        TcpProxy(server.url) as proxy,
        Provider(proxy.url, retry_budget=0.2) as provider,
        impostor(asks(CLEARTEXT)) as it,
    ):
        provider.ensure_store_exists()
        proxy.switch(f"127.0.0.1:{it.port}")
        proxy.cut()
        with pytest.raises(PersistenceError, match="in clear"):
            provider.get_runnable_events(at(0))
        wait_until(lambda: it.heard)
        assert it.passwords == []


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsServer]:
    """One for all these tests."""
    with tls_server() as server:
        yield server


@pytest.fixture(scope="module")
def stranger(tls: TlsServer, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no client knows."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def shows(tls: TlsServer, stranger: Authority, kind: str) -> Path:
    """Let the server show a certificate of this kind; the root certificate that the client knows."""
    certificates = {
        "good": lambda: tls.authority.issue("good"),
        "another authority's": lambda: stranger.issue("strange"),
        "another host's": lambda: tls.authority.issue("named", host="db.example.org"),
        "expired": lambda: tls.authority.issue("expired", days=-1),
        "signed by itself": lambda: stranger.own,
    }
    tls.present(*certificates[kind]())
    return tls.authority.root


def is_encrypted(provider: Provider) -> bool:
    """Whether its connection is."""
    with provider.engine.connect() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(connection.exec_driver_sql(query).scalar_one())


def test_the_right_certificate(tls: TlsServer, stranger: Authority) -> None:
    """Passes, and what follows is encrypted."""
    root = shows(tls, stranger, "good")
    with Provider(tls.url(sslmode="verify-full", sslrootcert=str(root))) as provider:
        provider.ensure_store_exists()
        assert provider.get_runnable_events(at(0)) == []
        assert is_encrypted(provider)


@pytest.mark.parametrize("kind", ["another authority's", "another host's", "expired", "signed by itself"])
def test_a_wrong_certificate(tls: TlsServer, stranger: Authority, kind: str) -> None:
    """Fails at once, says that it is TLS, and is not tried again."""
    root = shows(tls, stranger, kind)
    with Provider(tls.url(sslmode="verify-full", sslrootcert=str(root))) as provider:
        began = time.monotonic()
        with pytest.raises(PersistenceError, match="no TLS connection") as caught:
            provider.get_runnable_events(at(0))
        assert time.monotonic() - began < 2
    assert not caught.value.retryable
    assert str(make_url(tls.postgres.url).password) not in shown(caught.value)
    with Provider(tls.url(sslmode="require")) as careless:  # the measure itself: it is only the certificate
        assert is_encrypted(careless)
