"""Whether a commit that the server acknowledged is where the server was configured to put it.

A server with a synchronous standby lets a commit wait until the standby has it. A cancellation ends that wait: the
transaction is committed on the primary alone, the answer is success, and only a WARNING tells the difference.
(https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION)
"""

from typing import Any

import psycopg
from sqlalchemy import ColumnElement, Executable, case, func, literal_column, select, true

_builtin: Any = func.pg_catalog
_off = _builtin.current_setting(literal_column("'synchronous_commit'")) == literal_column("'off'")
_silent = _builtin.current_setting(literal_column("'client_min_messages'")) == literal_column("'error'")

FORCE_SYNCHRONOUS_COMMIT: ColumnElement[Any] = _builtin.concat(
    case((_off, _builtin.set_config(literal_column("'synchronous_commit'"), literal_column("'on'"), true()))),
    case((_silent, _builtin.set_config(literal_column("'client_min_messages'"), literal_column("'warning'"), true()))),
).label("durable")
"""For the RETURNING of every write: what is reported as written survives a crash of the server.

Where a role, a database or a server has `synchronous_commit = off`, a commit is acknowledged before it is on disk;
this switches it on for the transaction that it stands in, and for no other. Likewise it lets the warning through that
a commit's wait for a synchronous standby was cut short.
"""

_emit_message = _builtin.pg_logical_emit_message(true(), literal_column("'wfe_postgres'"), literal_column("''"))
CONFIRM: Executable = select(_emit_message, FORCE_SYNCHRONOUS_COMMIT)
"""A commit of its own: once it is confirmed, so is every earlier one. It writes some 50 bytes of WAL."""


class CommitNotConfirmedError(psycopg.OperationalError):
    """The transaction may be committed on the primary alone: the wait for a synchronous standby was cut short."""
