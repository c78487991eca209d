"""Classifies failures: whether the call can be retried, and which of our errors a caller sees.

Decided by phase (was a connection made?) and SQLSTATE, never by exception class: statement_timeout, lock_timeout, a
serialization failure and a lost connection are all `OperationalError`. Only a failed connect is classified by its
message, because libpq reports no SQLSTATE for it; a message that is not recognized counts as transient.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

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


# 25P03 and 25P04: a timeout ended the session, and with it the transaction, before the COMMIT was read.
_ROLLED_BACK = {"40001", "40P01", "25P03", "25P04"}
_QUERY_CANCELED = "57014"
_STORE_MISSING = {"42P01", "3F000", "42703", "42883", "42P10"}  # 42P10: no such unique key for ON CONFLICT
READ_ONLY = "25006"
NOT_PERMITTED = "42501"
"""PostgreSQL's insufficient_privilege."""
TOO_LARGE = "54000"
"""PostgreSQL's program_limit_exceeded: a text of 1 GiB, for example."""
_LOST = re.compile("08...|57P0[1235]")
_TRANSIENT = re.compile("40001|40P01|25P0[34]|55P03|53...|57P0.|08...|25006")

_HOSTS = re.compile(r"\n(?=- host: |connection to server )")
_CONNECT_FINAL = (
    (
        r"password authentication failed|no password supplied|28P01|28000|pg_hba|not permitted to log in",
        "the server rejected the user or the password",
    ),
    (r"database .* does not exist", "the database does not exist: create it first"),
    (r"role .* does not exist", "the role does not exist"),
    (
        r"authentication method requirement",
        "the server asks for the password in clear, without TLS: add sslmode=require or require_auth=password",
    ),
    (
        r"certificate|SSL(?! SYSCALL| error: unexpected eof)|TLS",
        "no TLS connection that satisfies the URL's sslmode could be made",
    ),
    (r"invalid (connection option|URI|sslmode|port)", "the URL holds an option that libpq does not know"),
)
_CONNECT_TRANSIENT = (
    (r"unexpected eof|SSL SYSCALL", "the server closed the connection during the TLS handshake"),
    (r"session is read-only|hot standby mode", "none of the hosts accepts writes"),
    (r"refused|No such file|Is the server running", "no server answers there: is PostgreSQL running?"),
    (r"resolve|translate host|Name or service|getaddrinfo", "the host's name cannot be resolved"),
    (r"too many (clients|connections)|connection slots", "the server has no connection left"),
    (r"starting up|shutting down|recovery", "the server is starting up or shutting down"),
    (
        r"closed the connection|connection is (lost|closed)|reset by peer|Broken pipe|could not (send|receive)",
        "the connection was lost while it was being made",
    ),
    (r"[Uu]nreachable|No route to host|Host is down", "the host cannot be reached"),
    (r"pool gave only", "the pool gives only connections that the server has closed"),
    (r"timeout|timed out|did not answer", "the server did not answer in time"),
)


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's five-character code, if the server gave one."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    return getattr(driver, "sqlstate", None)


def classify(error: BaseException, *, sent: bool = True, timed_out: bool = False) -> Failure:
    """What the failure means; `sent`: the connection had been made; `timed_out`: we cancelled it at its deadline."""
    if isinstance(error, PoolTimeoutError):
        reason = "no connection of the pool came free in time"
        return Failure(Kind.FINAL, PersistenceError(reason, retryable=True, original=error))
    if isinstance(error, CommitNotConfirmedError):
        reason = "it was committed, but the wait for a synchronous standby was cut short: it may not be replicated"
        return Failure(Kind.NOT_CONFIRMED, PersistenceError(reason, original=error))
    state = sqlstate_of(error)
    if not sent and state is None:
        return _connect_failure(error)
    if timed_out and state == _QUERY_CANCELED:
        reason = "the call reached its deadline (call_timeout), and its statement was cancelled"
        return Failure(Kind.ROLLED_BACK, PersistenceError(reason, state, retryable=True, original=error))
    kind = _kind(error, state, sent)
    if state in _STORE_MISSING:
        return Failure(kind, _not_ready(state, error))
    return Failure(kind, _refused(error, state, kind))


def _kind(error: BaseException, state: str | None, sent: bool) -> Kind:
    if state is None:
        driver = error.orig if isinstance(error, DBAPIError) else error
        # psycopg can report a reset socket before it counts the connection as closed.
        cut = isinstance(driver, (OSError, psycopg.OperationalError))
        return Kind.LOST if cut or getattr(error, "connection_invalidated", False) else Kind.FINAL
    if not sent:
        return Kind.NOT_SENT if _TRANSIENT.fullmatch(state) else Kind.FINAL
    if state in _ROLLED_BACK:
        return Kind.ROLLED_BACK
    if state == READ_ONLY:
        return Kind.READ_ONLY
    return Kind.LOST if _LOST.fullmatch(state) else Kind.FINAL


def _not_ready(state: str | None, error: BaseException) -> StoreNotReadyError:
    reason = "the store is missing or older than this library: call ensure_store_exists() or run `wfe-postgres upgrade`"
    return StoreNotReadyError(reason, state, original=error)


def _refused(error: BaseException, state: str | None, kind: Kind) -> PersistenceError:
    driver = error.orig if isinstance(error, DBAPIError) else error
    diagnostics = driver.diag if isinstance(driver, psycopg.Error) else None
    table = diagnostics.table_name if diagnostics else None
    if isinstance(driver, DeadlineExceeded):
        reason = "the server did not answer before the call's deadline (call_timeout): the connection was lost"
    elif kind is Kind.LOST:
        reason = "the connection to the database was lost"
    elif state == NOT_PERMITTED:
        reason = (
            "the role lacks a privilege: USAGE on the schema and its sequences, and SELECT, INSERT, UPDATE and DELETE "
            "on its tables, are needed"
        )
    else:
        reason = f"the database refused the statement: {type(driver).__name__}" + (f" on {table}" if table else "")
    return PersistenceError(
        reason,
        state,
        diagnostics.constraint_name if diagnostics else None,
        retryable=kind is Kind.LOST or bool(state and _TRANSIENT.fullmatch(state)),
        original=error,
    )


def _connect_failure(error: BaseException) -> Failure:
    # Of several hosts each has its message; a refusal is final only if no other host may still accept.
    if isinstance(error, OSError):
        return _cannot_connect(Kind.NOT_SENT, "the connection could not be made", error)
    kinds = [_connect_kind(message) for message in _HOSTS.split(str(error))]
    kind, sentence = min(kinds, key=lambda it: (it[0] is Kind.FINAL, it[0] is Kind.UNKNOWN_CONNECT))
    return _cannot_connect(kind, sentence, error)


def _connect_kind(message: str) -> tuple[Kind, str]:
    for kind, table in ((Kind.FINAL, _CONNECT_FINAL), (Kind.NOT_SENT, _CONNECT_TRANSIENT)):
        for pattern, sentence in table:
            if re.search(pattern, message):
                return kind, sentence
    return Kind.UNKNOWN_CONNECT, "the reason is not recognized (`original` has the server's words)"


def _cannot_connect(kind: Kind, sentence: str, error: BaseException) -> Failure:
    transient = kind is not Kind.FINAL
    return Failure(kind, PersistenceError(f"cannot connect: {sentence}", retryable=transient, original=error))
