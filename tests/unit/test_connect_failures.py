"""Why a connection could not be made is told by libpq's message alone."""

import psycopg
import pytest

from wfe_postgres.connections.failures import Kind, classify

ONE = {
    "connection failed: FATAL:  pg_hba.conf rejects connection for host": Kind.FINAL,
    'connection failed: FATAL:  role "app" is not permitted to log in': Kind.FINAL,
    "connection failed: SSL error: certificate verify failed": Kind.FINAL,
    "connection failed: SSL error: unexpected eof while reading": Kind.NOT_SENT,
    "connection failed: SSL SYSCALL error: EOF detected": Kind.NOT_SENT,
    "connection failed: session is read-only": Kind.NOT_SENT,
    "connection failed: server is in hot standby mode": Kind.NOT_SENT,
    "connection failed: server closed the connection unexpectedly": Kind.NOT_SENT,
    "connection failed: could not receive data from server: Connection reset by peer": Kind.NOT_SENT,
    "connection failed: Network is unreachable": Kind.NOT_SENT,
    "connection failed: No route to host": Kind.NOT_SENT,
    "the connection is lost": Kind.NOT_SENT,
    "the server did not answer before the deadline": Kind.NOT_SENT,
    "connection failed: FATAL:  Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen": Kind.UNKNOWN_CONNECT,
}
REFUSED = 'connection to server at "a" failed: FATAL:  password authentication failed for user'
TLS = 'connection to server at "b" failed: SSL error: certificate verify failed'
DOWN = 'connection to server at "c" failed: Connection refused'


@pytest.mark.parametrize(("message", "kind"), ONE.items())
def test_failed_connect_is_classified_by_its_message(message: str, kind: Kind) -> None:
    failure = classify(psycopg.OperationalError(message), sent=False)
    assert failure.kind is kind
    assert failure.error.retryable == (kind is not Kind.FINAL)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("messages", "kind"),
    [((REFUSED, TLS), Kind.FINAL), ((REFUSED, DOWN), Kind.NOT_SENT), ((DOWN, TLS, REFUSED), Kind.NOT_SENT)],
)
def test_refusal_is_final_only_if_every_host_refuses(messages: tuple[str, ...], kind: Kind) -> None:
    error = psycopg.OperationalError("connection failed: " + "\n".join(messages))
    assert classify(error, sent=False).kind is kind


def test_only_standbys_reachable_is_said() -> None:
    error = classify(psycopg.OperationalError("connection failed: session is read-only"), sent=False).error
    assert str(error) == "cannot connect: none of the hosts accepts writes"


def test_error_of_a_socket_is_transient_whatever_its_text() -> None:
    assert classify(ConnectionResetError("verbindung verloren"), sent=False).kind is Kind.NOT_SENT
