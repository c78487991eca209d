"""How a statement is run: compiled once for all schemas, then sent as text.

Compiling, and even finding what was compiled before, is most of what SQLAlchemy costs for statements of this length
(15 to 27 microseconds a call are saved).
"""

import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus
from psycopg.rows import tuple_row
from psycopg.types.numeric import IntDumper, IntLoader
from psycopg.types.string import StrDumper, TextLoader
from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, StatementError

from wfe_postgres.connections.confirmation import CommitNotConfirmedError
from wfe_postgres.connections.deadlines import has_timed_out
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.orm import SCHEMA

Rows = Sequence[Any]
Parameters = Mapping[str, Any]

Execute = Callable[[Executable, Parameters], Rows]
"""Runs one statement and gives all its rows, if it has any."""

_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of PostgreSQL's that sends the warning: the same in every language of the server's messages."""

_SMALL = 65536
"""In characters."""
_LONG_TEXT = 1000
"""The characters that each text of a list is taken for."""

ANY_SCHEMA = "wfe_postgres_any_schema"  # as the name of a schema, it needs no quotes
_NOT_STREAMED = {"stream_results": False, "yield_per": None}  # PostgreSQL declares a cursor only for a query


class _Compiler(PGCompiler_psycopg):
    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        # A client-side cursor puts in the value: in -9223372036854775808::bigint the minus is applied last, and fails.
        return super().render_bind_cast(type_, dbapi_type, f"({sqltext})")  # type: ignore[no-any-return, no-untyped-call]


DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]
DIALECT.statement_compiler = _Compiler


def run_by_sqlalchemy(connection: Connection, schema: str, statement: Executable, parameters: Parameters) -> Rows:
    """By `exec_driver_sql`, so that `echo`, the cursor events and what listens to them see each statement.

    The statement is written for the default schema and run in this one.
    """
    parts, constants = compiled(statement)
    try:
        result = connection.exec_driver_sql(
            schema.join(parts), {**constants, **parameters} if constants else parameters, _NOT_STREAMED
        )
    except StatementError as error:
        if isinstance(error, DBAPIError) or error.orig is None:
            raise
        raise error.orig from None  # the application's own, from a signal handler, which SQLAlchemy has wrapped
    return result.all() if result.returns_rows else ()


@contextmanager
def not_streamed(connection: Connection) -> Iterator[None]:
    """For what SQLAlchemy itself executes in the block, as SAVEPOINT, whatever execution options the connection has."""
    before = connection.get_execution_options()
    connection.execution_options(**_NOT_STREAMED)
    try:
        yield
    finally:
        connection.execution_options(**{name: before.get(name) for name in _NOT_STREAMED})


def run_by_driver(
    connection: psycopg.Connection[Any], schema: str, statement: Executable, parameters: Parameters
) -> Rows:
    """By psycopg alone, whatever row factory, cursor class, dumpers and loaders the connection has."""
    with PlainCursor(connection) as cursor:
        return run_by_cursor(cursor, schema, statement, parameters)


def run_by_cursor(cursor: psycopg.Cursor[Any], schema: str, statement: Executable, parameters: Parameters) -> Rows:
    """By this cursor, which keeps nothing of the result."""
    query, constants = compiled_for(schema, statement)
    cursor.execute(query, {**constants, **parameters} if constants else parameters)
    result = cursor.pgresult
    if result is None:
        return ()
    rows = cursor.fetchall() if result.status == ExecStatus.TUPLES_OK else ()
    result.clear()  # libpq's copy of the rows
    return rows


def are_small(parameters: Parameters) -> bool:
    """Whether a cursor may be kept, which holds the parameters of a statement that it has not prepared."""
    texts_and_lists = [it for it in parameters.values() if isinstance(it, (str, list))]
    return sum([len(it) if isinstance(it, str) else len(it) * _LONG_TEXT for it in texts_and_lists]) <= _SMALL


class PlainCursor(psycopg.Cursor[Any]):
    """A cursor with psycopg's own dumpers, loaders and rows, whatever its connection has."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        return _PLAIN


_PLAIN = AdaptersMap(psycopg.adapters)
_PLAIN.register_loader("text", TextLoader)
_PLAIN.register_loader("int8", IntLoader)
_PLAIN.register_dumper(str, StrDumper)
_PLAIN.register_dumper(int, IntDumper)


@lru_cache(maxsize=1024)
def compiled_for(schema: str, statement: Executable) -> tuple[bytes, dict[str, Any]]:
    """The statement's SQL in this schema, as psycopg sends it, and the parameters whose values stand in it."""
    parts, constants = compiled(statement)
    return schema.join(parts).encode(), constants


@lru_cache(maxsize=1024)
def compiled(statement: Executable) -> tuple[list[str], dict[str, Any]]:
    """The statement's SQL, in psycopg's paramstyle, and the parameters whose values stand in it.

    In parts, to be joined by the name of a schema: one process can have hundreds of schemas.
    """
    made: Any = statement.compile(  # type: ignore[attr-defined]
        dialect=DIALECT, schema_translate_map={SCHEMA: ANY_SCHEMA}, render_schema_translate=True
    )
    constants = {name: value for name, value in made.params.items() if value is not None}
    return str(made).split(ANY_SCHEMA), constants


def is_closed(driver: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed an idle connection (or has sent something unasked, which ends in the same).

    One system call without waiting, so a connection that died in the pool costs no failed call.
    """
    pgconn = driver.pgconn
    if pgconn.status == ConnStatus.BAD:
        return True
    if not hasattr(select, "poll"):  # eventlet removes it
        return bool(select.select([pgconn.socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def require_ready(connection: psycopg.Connection[Any]) -> None:
    """PersistenceError: a statement has no result until later (pipeline mode), or not every text can be sent."""
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise PersistenceError("the connection is in pipeline mode: leave the block of Connection.pipeline() first")
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    # Nothing is known of a connection that is closed; PgBouncer repeats the name as it was asked for.
    if encoding and encoding != b"UTF8" and encoding.upper().replace(b"-", b"") != b"UTF8":
        raise _wrong_encoding(encoding.decode())


class CommitMonitor:
    """A notice handler that looks for the warning that a commit's wait for a standby was cut short."""

    was_cut_short: bool = False

    def __call__(self, notice: psycopg.errors.Diagnostic) -> None:
        """See `psycopg.Connection.add_notice_handler`."""
        self.was_cut_short = self.was_cut_short or notice.source_function == _WAIT_FOR_STANDBY


def require_confirmed(connection: psycopg.Connection[Any], monitor: CommitMonitor) -> None:
    """CommitNotConfirmedError: the wait was cut short, or a cancellation was sent that may have done so."""
    if monitor.was_cut_short or has_timed_out(connection):
        raise CommitNotConfirmedError


def bytes_for_text(error: TypeError) -> Exception:
    """In SQL_ASCII psycopg gives bytes for text, at which SQLAlchemy's first connect fails: say what is wrong."""
    return _wrong_encoding("SQL_ASCII") if "bytes-like" in str(error) else error


def _wrong_encoding(name: str) -> PersistenceError:
    return PersistenceError(
        f"the connection's client_encoding is {name}, and UTF8 is needed: pass client_encoding=utf8 when connecting"
    )
