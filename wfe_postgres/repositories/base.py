"""What every repository has: a way to the database, a schema, and a limit for what it takes."""

import logging
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlalchemy.orm import sessionmaker

from wfe_postgres.codec.decoding import read
from wfe_postgres.codec.fields import Columns, Document
from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.connections import JoinedRunner, PooledRunner, SessionOrConnection, StatementRunner
from wfe_postgres.connections.checkout import session_source
from wfe_postgres.connections.runners import join_caller
from wfe_postgres.contract.errors import CorruptRowError, SerializationError
from wfe_postgres.contract.models import new_id
from wfe_postgres.orm import SCHEMA

logger: logging.Logger = logging.getLogger("wfe_postgres")

MAX_CALL_BYTES = 200 * 1024 * 1024
"""How many bytes of values one call may carry. (json_to_recordset was seen to work beyond; memory suffers first.)"""

_T = TypeVar("_T")
_KEY_WORDS = RESERVED_WORDS | {"collation", "concurrently", "lateral", "system_user", "tablesample"}
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


Source = SessionOrConnection | sessionmaker[Any] | StatementRunner
"""What a repository can be given to work on."""


class Repository:
    """The common part of the repositories.

    `source` is a session, a scoped session, a SQLAlchemy connection or a psycopg 3 connection: then every call is part
    of that transaction, which is never committed or rolled back here. Or it is a `sessionmaker`: then every call is
    a transaction of its own. `max_payload_bytes` limits a single JSON value, in bytes of its encoding.
    """

    def __init__(
        self,
        source: Source,
        *,
        schema: str = SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._schema = plain_schema(schema)
        self._runner = _runner_for(source, schema)
        self._max_payload_bytes = max_payload_bytes


def _runner_for(source: Source, schema: str) -> StatementRunner:
    if isinstance(source, (PooledRunner, JoinedRunner)):
        return source
    if isinstance(source, sessionmaker):
        return PooledRunner(session_source(source), schema)
    return join_caller(source, schema)  # type: ignore[arg-type]


def plain_schema(schema: str) -> str:
    """The schema's name. ValueError: PostgreSQL would have to quote it, or cut it off."""
    if not isinstance(schema, str) or not _PLAIN_NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise ValueError("a schema's name is lower-case letters, digits and _, at most 63, and does not begin with pg_")
    if schema in _KEY_WORDS:
        raise ValueError(f"a schema cannot be called {schema}: the word has a meaning in SQL")
    return schema


def new_revision() -> int:
    """A stamp that was never used and never will be: 63 random bits."""
    return secrets.randbits(63)


def id_or_new(given: str) -> str:
    """The id of a new thing: a new UUID where it is empty."""
    return given if given != "" else new_id()


def read_all(documents: Iterable[str], convert: Callable[[Document], _T], columns: Columns) -> list[_T]:
    """The rows that can be read; the others are left out of the list, and their ids logged."""
    found = []
    for document in documents:
        try:
            found.append(read(document, convert, columns))
        except CorruptRowError as error:
            logger.error("left out of a list: %s", error)
    return found


def check_call_size(path: str, *values: str | None) -> None:
    """`SerializationError`: the values are too much for one call."""
    size = sum(len(value) if value.isascii() else len(value.encode()) for value in values if value)
    if size > MAX_CALL_BYTES:
        raise SerializationError(path, f"the values of this call take {size} bytes together, of {MAX_CALL_BYTES}")
