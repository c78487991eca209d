"""Servers that refuse or break off a connection: which calls are retried for their whole budget, and which are not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import event

from tests.faults.kit.impostor import impostor, says
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at

Provider = PostgresPersistenceProvider

REFUSALS = {
    "German": "Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen",
    "French": "authentification par mot de passe échouée pour l'utilisateur « app »",
    "Japanese": 'ユーザー"app"のパスワード認証に失敗しました',
}


@pytest.mark.parametrize("text", REFUSALS.values(), ids=REFUSALS)
def test_refusal_in_any_language_ends_the_call_after_a_few_tries(text: str) -> None:
    """Long before the retry budget of 30 seconds; the server's words are in `original`."""
    began = time.monotonic()
    with impostor(says(text)) as server:
        provider = Provider(f"postgresql://app@127.0.0.1:{server.port}/shop?sslmode=disable")
        with provider, pytest.raises(PersistenceError, match="server's log") as caught:
            provider.get_runnable_events(at(0))
    assert text in str(caught.value.original)
    assert 1 < server.clients <= 10
    assert time.monotonic() - began < 10


@contextmanager
def server_that_ends_in_the_tls_handshake() -> Iterator[tuple[int, list[int]]]:
    """Its port, and an entry for each client; it agrees to TLS and closes the connection."""
    clients: list[int] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(8)
                    client.sendall(b"S")
                    client.recv(1)
                    client.shutdown(socket.SHUT_RDWR)
                    clients.append(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], clients
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_server_that_ends_in_the_tls_handshake_is_tried_again() -> None:
    """For the whole retry budget: it can be a server that is being stopped."""
    with server_that_ends_in_the_tls_handshake() as (port, clients):
        url = f"postgresql://app@127.0.0.1:{port}/shop?sslmode=require&gssencmode=disable"
        with (
            Provider(url, retry_budget=4) as provider,
            pytest.raises(PersistenceError, match="cannot connect") as caught,
        ):
            provider.get_runnable_events(at(0))
    assert caught.value.retryable
    assert "TLS handshake" in str(caught.value) or "closed the connection" in str(caught.value)
    assert len(clients) > 8


def fetch_password(*_: Any) -> None:
    """Fail as a client of a vault does."""
    raise ConnectionRefusedError("the vault does not answer")


def test_error_of_a_listener_is_not_called_a_failed_connect() -> None:
    """The password's source is down and not the database."""
    with Provider("postgresql://app@127.0.0.1:1/shop") as provider:
        event.listen(provider.engine, "do_connect", fetch_password)
        with pytest.raises(PersistenceError, match=r"a listener .* raised ConnectionRefused") as caught:
            provider.get_runnable_events(at(0))
    assert caught.value.retryable
    assert "vault" in str(caught.value.original)
