"""TLS: no clear text password, no unencrypted fallback, and certificate verification."""

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


def close_connection(client: socket.socket) -> None:
    """Close the connection without an answer."""
    client.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require", "verify-full"])
def test_password_is_not_sent_in_clear_text_when_the_server_declines_tls(sslmode: str) -> None:
    """A fake server declines TLS and requests a clear text password, for every `sslmode`."""
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


@pytest.mark.parametrize("script", [garbage, close_connection, says(f"{CANARY} {PASSWORD}")])
def test_call_raises_within_its_timeout_when_the_peer_is_not_postgresql(script: Script) -> None:
    """The error has the right type and does not contain the answer of the peer."""
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


def test_password_is_not_sent_in_clear_text_when_the_server_is_replaced() -> None:
    """A fake server takes over the address after the provider has connected to the real one."""
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
        wait_until(lambda: it.received)
        assert it.passwords == []


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsServer]:
    """The TLS server of the module."""
    with tls_server() as server:
        yield server


@pytest.fixture(scope="module")
def untrusted(tls: TlsServer, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that the client does not trust."""
    return Authority(tmp_path_factory.mktemp("untrusted"), "untrusted")


def present(tls: TlsServer, untrusted: Authority, kind: str) -> Path:
    """Configure a server certificate of this kind; return the root certificate that the client trusts."""
    certificates = {
        "valid": lambda: tls.authority.issue("valid"),
        "untrusted authority": lambda: untrusted.issue("untrusted-server"),
        "wrong host": lambda: tls.authority.issue("named", host="db.example.org"),
        "expired": lambda: tls.authority.issue("expired", days=-1),
        "self-signed": lambda: untrusted.own,
    }
    tls.present(*certificates[kind]())
    return tls.authority.root


def is_encrypted(provider: Provider) -> bool:
    """Return whether the connection of the provider uses TLS."""
    with provider.engine.connect() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(connection.exec_driver_sql(query).scalar_one())


def test_connection_is_encrypted_when_the_certificate_is_valid(tls: TlsServer, untrusted: Authority) -> None:
    """`sslmode=verify-full` with the trusted root certificate."""
    root = present(tls, untrusted, "valid")
    with Provider(tls.url(sslmode="verify-full", sslrootcert=str(root))) as provider:
        provider.ensure_store_exists()
        assert provider.get_runnable_events(at(0)) == []
        assert is_encrypted(provider)


@pytest.mark.parametrize("kind", ["untrusted authority", "wrong host", "expired", "self-signed"])
def test_connection_fails_without_retry_when_the_certificate_is_invalid(
    tls: TlsServer, untrusted: Authority, kind: str
) -> None:
    """The error names TLS and is raised within two seconds."""
    root = present(tls, untrusted, kind)
    with Provider(tls.url(sslmode="verify-full", sslrootcert=str(root))) as provider:
        began = time.monotonic()
        with pytest.raises(PersistenceError, match="no TLS connection") as caught:
            provider.get_runnable_events(at(0))
        assert time.monotonic() - began < 2
    assert not caught.value.retryable
    assert str(make_url(tls.postgres.url).password) not in shown(caught.value)
    with Provider(tls.url(sslmode="require")) as unverified:  # only the certificate is invalid
        assert is_encrypted(unverified)
