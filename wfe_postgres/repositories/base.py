"""What all repositories share: a statement runner, a schema, and a limit for the size of a value."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Executable
from sqlalchemy.orm import sessionmaker

from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections import Execute, JoinedRunner, PooledRunner, SessionOrConnection, StatementRunner
from wfe_postgres.connections.session_source import SessionSource
from wfe_postgres.contract.errors import CorruptRowError
from wfe_postgres.contract.models import new_id
from wfe_postgres.orm import SCHEMA

logger: logging.Logger = logging.getLogger("wfe_postgres")

_T = TypeVar("_T")


Source = SessionOrConnection | sessionmaker[Any] | StatementRunner
"""What a repository can be given to work on."""


class Repository:
    """The common part of the repositories.

    `source` is a session, a scoped session, a SQLAlchemy connection or a psycopg 3 connection: then every call is part
    of that transaction, which is never committed or rolled back here. Or it is a `sessionmaker`: then every call is
    a transaction of its own. `max_payload_bytes` limits a single JSON value, in bytes of its encoding.
    """

    def __init__(self, source: Source, *, schema: str = SCHEMA, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._schema = schema_name(schema)
        self._runner = _runner_for(source, schema)
        self._max_payload_bytes = max_payload_bytes

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: pass the URL, and create another one")


def _runner_for(source: Source, schema: str) -> StatementRunner:
    if isinstance(source, (PooledRunner, JoinedRunner)):
        return source
    if isinstance(source, sessionmaker):
        return PooledRunner(SessionSource(source), schema)
    return JoinedRunner(source, schema)  # type: ignore[arg-type]


def id_or_new(id: str) -> str:
    """The id, or a new UUID where it is empty."""
    return id if id != "" else new_id()


def create_once(
    create: Executable, is_stored: Executable, record: Mapping[str, Any], execute: Execute, may_have_committed: bool
) -> bool:
    """Store a row. False: its id is stored already, and not by an earlier try of this call whose answer was lost."""
    return bool(execute(create, record)) or (may_have_committed and bool(execute(is_stored, record)))


def read_all(json_rows: Iterable[str], read: Callable[[str], _T]) -> list[_T]:
    """The rows that can be read; the others are left out of the list, and their ids logged."""
    found = []
    for json_row in json_rows:
        try:
            found.append(read(json_row))
        except CorruptRowError as error:
            logger.error("left out of a list: %s", error)
    return found
