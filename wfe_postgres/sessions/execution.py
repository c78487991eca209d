"""How a statement is run: compiled once for a schema, then sent through SQLAlchemy as it stands.

Compiling, and even finding what was compiled before, is most of what SQLAlchemy costs for statements of this length.
The text goes through `exec_driver_sql`, so that `echo`, the cursor events and what listens to them see each statement.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, StatementError

from wfe_postgres.rows import SCHEMA

Rows = Sequence[Any]
Parameters = Mapping[str, Any]
Execute = Callable[[Executable, Parameters], Rows]
"""Runs one statement and gives all its rows, if it has any."""

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def executor(connection: Connection, schema: str) -> Execute:
    """Runs the statements, which are written for the default schema, in this one."""

    def execute(statement: Executable, parameters: Parameters) -> Rows:
        sql, constants = compiled(statement, schema)
        try:
            result = connection.exec_driver_sql(sql, {**constants, **parameters})
        except StatementError as error:
            if isinstance(error, DBAPIError) or error.orig is None:
                raise
            raise error.orig from None  # the application's own, a signal handler's say, which SQLAlchemy has wrapped
        return result.all() if result.returns_rows else ()

    return execute


@lru_cache(maxsize=1024)
def compiled(statement: Executable, schema: str) -> tuple[str, dict[str, Any]]:
    """The statement's SQL for a schema, in psycopg's paramstyle, and the parameters whose values stand in it."""
    made: Any = statement.compile(  # type: ignore[attr-defined]
        dialect=_DIALECT, schema_translate_map={SCHEMA: schema}, render_schema_translate=True
    )
    return str(made), {name: value for name, value in made.params.items() if value is not None}
