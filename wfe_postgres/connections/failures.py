"""Classifies failures: whether the call can be retried, and which of our errors a caller sees.

Decided by phase (was a connection made?) and SQLSTATE, never by exception class: statement_timeout, lock_timeout, a
serialization failure and a lost connection are all `OperationalError`. Only a failed connect is classified by its
message, because libpq reports no SQLSTATE for it. A message that is not recognized, such as one in another language,
can be a refusal or not: the call tries a few times.
"""

import errno
import os
import re
from dataclasses import dataclass
from enum import Enum, auto
from operator import itemgetter

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wfe_postgres.connections.confirmation import CommitNotConfirmedError
from wfe_postgres.connections.deadlines import DeadlineExceeded
from wfe_postgres.contract.errors import PersistenceError, StoreNotReadyError, WfeError

CATCHABLE = (SQLAlchemyError, psycopg.Error, OSError)
"""What SQLAlchemy, psycopg or a socket can raise at us."""


class Kind(Enum):
    """What is known of the effect of a call that failed."""

    NOT_SENT = auto()
    """It had no effect: retry."""
    UNKNOWN_CONNECT = auto()
    """No connection was made, for a reason that is not recognized: retry a few times, because it can be a refusal."""
    LOST = auto()
    """The connection was lost during the call: it may have committed."""
    NOT_CONFIRMED = auto()
    """It may be committed on the primary alone."""
    ROLLED_BACK = auto()
    """The server rolled the transaction back: retry."""
    READ_ONLY = auto()
    """This server no longer accepts writes: retry on another connection."""
    FINAL = auto()
    """A retry would fail again, or is not allowed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, its kind, and the error that says so to a caller."""

    kind: Kind
    error: WfeError


_QUERY_CANCELED = "57014"
_STORE_MISSING = {"42P01", "3F000", "42703", "42883", "42P10"}  # 42P10: no such unique key for ON CONFLICT
READ_ONLY = "25006"
NOT_PERMITTED = "42501"
"""PostgreSQL's insufficient_privilege."""
TOO_LARGE = "54000"
"""PostgreSQL's program_limit_exceeded: a text of 1 GiB, for example."""
# 25P03 and 25P04: a timeout ended the session, and with it the transaction, before the COMMIT was read.
_KINDS = dict.fromkeys(("40001", "40P01", "25P03", "25P04"), Kind.ROLLED_BACK) | {READ_ONLY: Kind.READ_ONLY}
_LOST = re.compile("08...|57P0[1235]")
_TRANSIENT = re.compile("40001|40P01|25P0[34]|55P03|53...|57P0.|08...|25006")

_REASONS = {
    READ_ONLY: "the server accepts no writes: it is a standby, or read-only",
    NOT_PERMITTED: (
        "the role lacks a privilege: USAGE on the schema and its sequences, and SELECT, INSERT, UPDATE and DELETE on "
        "its tables, are needed"
    ),
} | dict.fromkeys(("22P05", "22021"), "a text has a character that the database's encoding lacks: UTF8 is needed")

_HOSTS = re.compile(r"\n(?=- host: |connection to server )")
_CONNECT_FINAL = (
    (
        r"password authentication failed|no password supplied|28P01|28000|pg_hba|not permitted to log in|no such user",
        "the server rejected the user or the password",
    ),
    (r"database .* does not exist|no such database", "the database does not exist: create it first"),
    (r"role .* does not exist", "the role does not exist"),
    (
        r"authentication method requirement",
        "the server asks for the password in clear, without TLS: add sslmode=require or require_auth=password",
    ),
    (r'invalid (?:connection|URI query) (?:option|parameter)[^"]*"([^"]*)"', "libpq does not know the option {}"),
    (r'definition of service "([^"]*)" not found', "libpq's service file has no service {}"),
    (r"service file", "libpq's service file is missing or invalid"),
    (
        r'invalid .* for connection option "(\w+)"|invalid (\w+) (?:value|number)|bad value for (\w+)',
        "the value of the option {} is invalid",
    ),
    (
        r"certificate|private key|does not support SSL|SSL (is )?required|sslmode|channel binding|ALPN"
        r"|SSL error: (?!unexpected eof|.*internal error)",
        "no TLS connection that satisfies the URL's sslmode could be made",
    ),
)
_STARTING = "the server is starting up or shutting down"
# The most useful one of several hosts first.
_CONNECT_TRANSIENT = (
    (r"session is read-only|server is in hot standby mode", "none of the hosts accepts writes"),
    (r"SSL SYSCALL|unexpected eof|SSL exchange", "the server closed the connection during the TLS handshake"),
    (r"too many (clients|connections)|connection slots|no more connections", "the server has no connection left"),
    (r"starting up|shutting down|recovery|not (yet )?accepting connections", _STARTING),
    (r"Is the server running|server_login_retry", "no server answers there: is PostgreSQL running?"),
    (r"resolve|translate host|Name or service|getaddrinfo", "the host's name cannot be resolved"),
    (r"pool gave only", "the pool gives only connections that the server has closed"),
    (r"timeout|timed out|did not answer", "the server did not answer in time"),
    (
        r"closed the connection|closed unexpectedly|terminating connection|connection is (lost|closed)"
        r"|could not (send|receive)",
        "the server closed the connection",
    ),
)
_SYSTEM_ERRORS = (
    ((errno.ECONNREFUSED, errno.ENOENT), "no server answers there: is PostgreSQL running?"),
    ((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN), "the host cannot be reached"),
    ((errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE), "the server closed the connection"),
    ((errno.ETIMEDOUT,), "the server did not answer in time"),
)
"""Of the operating system, whose messages are in the language of this process."""


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's five-character code, if the server gave one."""
    return getattr(_driver_error(error), "sqlstate", None)


def classify(error: BaseException, *, sent: bool = True, timed_out: bool = False, schema: str = "") -> Failure:
    """What the failure means; `sent`: the connection had been made; `timed_out`: we cancelled it at its deadline."""
    if isinstance(error, PoolTimeoutError):
        reason = "no connection of the pool came free in time"
        return Failure(Kind.FINAL, PersistenceError(reason, retryable=True, original=error))
    if isinstance(error, CommitNotConfirmedError):
        reason = "it was committed, but the wait for a synchronous standby was cut short: it may not be replicated"
        return Failure(Kind.NOT_CONFIRMED, PersistenceError(reason, original=error))
    state, driver = sqlstate_of(error), _driver_error(error)
    if not sent:
        return _without_connection(driver, state, error)
    if timed_out and state == _QUERY_CANCELED:
        reason = "the call reached its deadline (call_timeout), and its statement was cancelled"
        return Failure(Kind.FINAL, PersistenceError(reason, state, retryable=True, original=error))
    kind = _kind(error, state)
    if state in _STORE_MISSING:
        reason = (
            f"the store{schema and f' in schema {schema}'} is missing or older than this library: call "
            "ensure_store_exists() or run `wfe-postgres upgrade`"
        )
        return Failure(kind, StoreNotReadyError(reason, state, original=error))
    return Failure(kind, _refused(driver, state, kind, error))


def _driver_error(error: BaseException) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _kind(error: BaseException, state: str | None) -> Kind:
    if state is None:
        # psycopg can report a reset socket before it counts the connection as closed.
        cut = isinstance(_driver_error(error), (OSError, psycopg.OperationalError))
        return Kind.LOST if cut or getattr(error, "connection_invalidated", False) else Kind.FINAL
    return _KINDS.get(state, Kind.LOST if _LOST.fullmatch(state) else Kind.FINAL)


def _refused(driver: BaseException, state: str | None, kind: Kind, error: BaseException) -> PersistenceError:
    diagnostics = driver.diag if isinstance(driver, psycopg.Error) else None
    table = diagnostics.table_name if diagnostics else None
    if isinstance(driver, DeadlineExceeded):
        reason = "the server did not answer before the call's deadline (call_timeout): the connection was lost"
    elif kind is Kind.LOST:
        reason = "the connection to the database was lost"
    elif state is None:
        reason = f"the statement was not sent: {type(driver).__name__}"
    else:
        refused = f"the database refused the statement: {type(driver).__name__}" + (f" on {table}" if table else "")
        reason = _REASONS.get(state, refused)
    return PersistenceError(
        reason,
        state,
        diagnostics.constraint_name if diagnostics else None,
        retryable=kind is Kind.LOST or bool(state and _TRANSIENT.fullmatch(state)),
        original=error,
    )


def _without_connection(driver: BaseException, state: str | None, error: BaseException) -> Failure:
    """A failed connect, for which libpq has no SQLSTATE; or what a listener of the engine or its pool has raised."""
    of_libpq = isinstance(driver, psycopg.OperationalError) and not type(driver).__module__.startswith("psycopg_pool")
    if state is None and (of_libpq or isinstance(driver, psycopg.ProgrammingError)):
        # Of several hosts each has its message; a refusal is final only if no other host may still accept.
        reasons = [_connect_reason(message) for message in _HOSTS.split(str(driver))]
        _, kind, sentence = min(reasons, key=itemgetter(0))
        if of_libpq or kind is Kind.FINAL:
            reason = f"cannot connect: {sentence}"
            return Failure(kind, PersistenceError(reason, retryable=kind is not Kind.FINAL, original=error))
    passing = isinstance(driver, (OSError, psycopg.OperationalError)) if state is None else _TRANSIENT.fullmatch(state)
    known = state is not None or isinstance(driver, ConnectionError)
    kind = Kind.FINAL if not passing else Kind.NOT_SENT if known else Kind.UNKNOWN_CONNECT
    reason = f"no connection was made: a listener of the engine, or its pool, raised {type(driver).__name__}"
    return Failure(kind, PersistenceError(reason, state, retryable=bool(passing), original=error))


def _connect_reason(message: str) -> tuple[int, Kind, str]:
    """How useful this host's message is beside others', and what it means."""
    for pattern, sentence in _CONNECT_FINAL:
        if found := re.search(pattern, message):
            return 100, Kind.FINAL, sentence.format(*filter(None, found.groups()))
    for usefulness, (pattern, sentence) in enumerate(_CONNECT_TRANSIENT):
        if re.search(pattern, message):
            return usefulness, Kind.NOT_SENT, sentence
    for codes, sentence in _SYSTEM_ERRORS:
        if any(os.strerror(code) in message for code in codes):
            return 50, Kind.NOT_SENT, sentence
    return 99, Kind.UNKNOWN_CONNECT, "the reason is not recognized: it is in `original` and in the server's log"
