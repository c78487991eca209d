"""Why a connection could not be made is told by libpq's message alone."""

import errno
import os

import psycopg
import pytest
from sqlalchemy.exc import InvalidRequestError

from tests.unit.test_failures import outcome, wrapped
from wfe_postgres import PersistenceError
from wfe_postgres.connections.failures import Kind, classify


class PoolTimeout(psycopg.OperationalError):
    """As that of psycopg_pool."""

    __module__ = "psycopg_pool.errors"


NOT_RUNNING = "no server answers there: is PostgreSQL running?"
UNKNOWN = "the reason is not recognized: it is in `original` and in the server's log"
FINAL_CONNECTS = [
    ('FATAL:  password authentication failed for user "x"', "the server rejected the user or the password"),
    ("fe_sendauth: no password supplied", "the server rejected the user or the password"),
    ('FATAL:  no pg_hba.conf entry for host "::1"', "the server rejected the user or the password"),
    ('FATAL:  database "x" does not exist', "the database does not exist: create it first"),
    ('FATAL:  role "x" does not exist', "the role does not exist"),
    (
        'authentication method requirement "!password" failed: server requested a cleartext password',
        "the server asks for the password in clear, without TLS: add sslmode=require or require_auth=password",
    ),
    ("server does not support SSL", "no TLS connection that satisfies the URL's sslmode could be made"),
    ("root certificate file not found", "no TLS connection that satisfies the URL's sslmode could be made"),
    ('invalid connection option "x"', "libpq does not know the option x"),
    ('invalid URI query parameter: "x"', "libpq does not know the option x"),
    ('definition of service "x" not found', "libpq's service file has no service x"),
    ('service file "x" not found', "libpq's service file is missing or invalid"),
    ('syntax error in service file "x", line 1', "libpq's service file is missing or invalid"),
    ('invalid sslmode value: "x"', "the value of the option sslmode is invalid"),
    ('invalid port number: "x"', "the value of the option port is invalid"),
    ('invalid integer value "x" for connection option "keepalives"', "the value of the option keepalives is invalid"),
]
TRANSIENT_CONNECTS = [
    ("connection to server failed: Connection refused", NOT_RUNNING),
    (
        "connection to server on socket failed: No such file or directory",
        "no server answers there: is PostgreSQL running?",
    ),
    ('could not translate host name "x" to address', "the host's name cannot be resolved"),
    ("[Errno -2] Name or service not known", "the host's name cannot be resolved"),
    ("FATAL:  sorry, too many clients already", "the server has no connection left"),
    ("FATAL:  remaining connection slots are reserved", "the server has no connection left"),
    ("FATAL:  the database system is starting up", "the server is starting up or shutting down"),
    ("FATAL:  the database system is shutting down", "the server is starting up or shutting down"),
    ("pool gave only closed connections", "the pool gives only connections that the server has closed"),
    ("connection timeout expired", "the server did not answer in time"),
    (f"connection failed: {os.strerror(errno.EHOSTUNREACH)}", "the host cannot be reached"),
    (f"could not send SSL negotiation packet: {os.strerror(errno.EPIPE)}", "the server closed the connection"),
    (f"could not receive data from server: {os.strerror(errno.ECONNRESET)}", "the server closed the connection"),
    ("server closed the connection unexpectedly", "the server closed the connection"),
    ("SSL connection has been closed unexpectedly", "the server closed the connection"),
    ("FATAL:  server login has been failing (server_login_retry)", NOT_RUNNING),
    ("FATAL:  the database system is not yet accepting connections", "the server is starting up or shutting down"),
    (
        "something that nobody has seen before",
        "the reason is not recognized: it is in `original` and in the server's log",
    ),
    ("", UNKNOWN),
]
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
GERMAN = 'connection to server at "d" failed: FATAL:  Passwort-Authentifizierung fehlgeschlagen'
STANDBY = 'connection to server at "e" failed: session is read-only'
DOWN = 'connection to server at "c" failed: Connection refused'


@pytest.mark.parametrize(("message", "sentence"), FINAL_CONNECTS)
def test_failed_connect_that_a_retry_would_repeat_is_final(message: str, sentence: str) -> None:
    failure = classify(wrapped(psycopg.OperationalError(message)), sent=False)
    assert outcome(failure) == (Kind.FINAL, False)
    assert str(failure.error) == f"cannot connect: {sentence}"


@pytest.mark.parametrize(("message", "sentence"), TRANSIENT_CONNECTS)
def test_failed_connect_that_may_pass_is_retryable(message: str, sentence: str) -> None:
    failure = classify(psycopg.OperationalError(message), sent=False)
    kind = Kind.UNKNOWN_CONNECT if "not recognized" in sentence else Kind.NOT_SENT
    assert outcome(failure) == (kind, True)
    assert str(failure.error) == f"cannot connect: {sentence}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.ProgrammingError("can't change 'autocommit' now"), (Kind.FINAL, False)),
        (InvalidRequestError("a transaction is already begun"), (Kind.FINAL, False)),
        (psycopg.errors.UndefinedTable("relation does not exist"), (Kind.FINAL, False)),
        (psycopg.errors.LockNotAvailable("locked"), (Kind.NOT_SENT, True)),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), (Kind.NOT_SENT, True)),
        (PoolTimeout("couldn't get a connection after 30.00 sec"), (Kind.UNKNOWN_CONNECT, True)),
    ],
)
def test_other_error_before_a_connection_is_known_is_no_failed_connect(
    error: BaseException, expected: tuple[Kind, bool]
) -> None:
    """What a listener of the engine or another pool has raised; nor is it a missing store."""
    failure = classify(wrapped(error) if isinstance(error, psycopg.Error) else error, sent=False)
    assert outcome(failure) == expected
    assert type(failure.error) is PersistenceError
    assert failure.error.reason == (
        f"no connection was made: a listener of the engine, or its pool, raised {type(error).__name__}"
    )


def test_final_reason_of_a_failed_connect_goes_before_a_transient_one() -> None:
    """libpq reports every address that it tried in one message."""
    message = 'connection to "::1" failed: Connection refused\nFATAL:  password authentication failed for user "x"'
    assert outcome(classify(psycopg.OperationalError(message), sent=False)) == (Kind.FINAL, False)


@pytest.mark.parametrize(("message", "kind"), ONE.items())
def test_failed_connect_is_classified_by_its_message(message: str, kind: Kind) -> None:
    failure = classify(psycopg.OperationalError(message), sent=False)
    assert failure.kind is kind
    assert failure.error.retryable == (kind is not Kind.FINAL)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ((REFUSED, TLS), Kind.FINAL),
        ((REFUSED, DOWN), Kind.NOT_SENT),
        ((DOWN, TLS, REFUSED), Kind.NOT_SENT),
        ((REFUSED, GERMAN), Kind.UNKNOWN_CONNECT),
        ((GERMAN, DOWN), Kind.NOT_SENT),
    ],
)
def test_refusal_is_final_only_if_every_host_refuses(messages: tuple[str, ...], kind: Kind) -> None:
    error = psycopg.OperationalError("connection failed: " + "\n".join(messages))
    assert classify(error, sent=False).kind is kind


def test_error_of_a_socket_is_transient_whatever_its_text() -> None:
    assert classify(ConnectionResetError("verbindung verloren"), sent=False).kind is Kind.NOT_SENT


@pytest.mark.parametrize("messages", [(STANDBY,), (DOWN, STANDBY), (STANDBY, DOWN), (REFUSED, STANDBY)])
def test_only_standbys_reachable_is_said(messages: tuple[str, ...]) -> None:
    """Also where the primary is down, which is when it happens."""
    failure = classify(psycopg.OperationalError("connection failed: " + "\n".join(messages)), sent=False)
    assert outcome(failure) == (Kind.NOT_SENT, True)
    assert str(failure.error) == "cannot connect: none of the hosts accepts writes"
