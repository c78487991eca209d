"""Which schema revisions there are, and at which one a store is."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, Text, column, select, table, text

from wfe_postgres.connections.checkout import PoolSource
from wfe_postgres.connections.deadlines import monotonic, set_timeout
from wfe_postgres.connections.failures import CATCHABLE, classify
from wfe_postgres.connections.pools import driver_connection
from wfe_postgres.contract.errors import StoreNotReadyError
from wfe_postgres.orm import SCHEMA, Base
from wfe_postgres.orm.base import version_table

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
HEAD = REVISIONS[-1]
"""The revision that this library works with."""

TABLES = frozenset(table.name for table in Base.metadata.tables.values())

_T = TypeVar("_T")

TABLES_THERE = text("""
SELECT c.relname::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relkind = 'r'
""")
STORE_FUNCTION = "stamp_workflow_revision"
"""Since revision 0003: in a schema that has it, `alembic_version` is the store's and not an application's."""
_IS_STORE = text("SELECT pg_catalog.to_regproc(:function) IS NOT NULL")


def current_revision(connection: Connection, schema: str = SCHEMA) -> str | None:
    """The schema revision of the store; None: there is no store yet, or none of its tables is left.

    Needs USAGE on the schema and nothing else. Runs in the caller's transaction.
    """
    name, there = version_table(schema), set(connection.scalars(TABLES_THERE, {"schema": schema}))
    if name not in there and connection.scalar(_IS_STORE, {"function": f"{schema}.{STORE_FUNCTION}"}):
        name = "alembic_version"  # in schema public, before it had a name of its own there
    if name not in there or not there & TABLES:
        return None
    version = column("version_num", Text)
    found = connection.scalars(select(version).select_from(table(name, schema=schema)))
    return " and ".join(found) or None


def database_encoding(connection: Connection) -> str:
    """In which the database stores texts; only UTF8 has every character."""
    return str(driver_connection(connection).info.parameter_status("server_encoding"))


def describe_revision(found: str | None, schema: str) -> str:
    """In words, what is wrong with a store that is not at head, and what helps."""
    if found is None:
        return f"there is no store in schema {schema}: run `wfe-postgres upgrade`"
    if found in REVISIONS:
        return (
            f"the store in schema {schema} is at schema revision {found}, older than this library ({HEAD}): "
            "run `wfe-postgres upgrade`"
        )
    return (
        f"the store in schema {schema} is at schema revision {found}, newer than this library ({HEAD}): "
        "update the library wfe_postgres (or, if another program's migrations are in that schema, choose another)"
    )


def read_in_transaction(engine: Engine, read: Callable[[Connection], _T], timeout: float = math.inf) -> _T:
    """What `read` finds in a transaction of its own; the database's errors become ours.

    Where something of the store was missing, it reads once more: an upgrade may have renamed the table of revisions.
    """
    for _ in range(2):
        connected = False
        try:
            lease = PoolSource(engine).for_transaction(monotonic() + timeout)
            with lease as connection:
                connected = True
                set_timeout(lease.driver, timeout)
                return read(connection)
        except CATCHABLE as error:
            failure = classify(error, sent=connected).error
        if not isinstance(failure, StoreNotReadyError):
            break
    raise failure


def scripts_directory() -> Path:
    beside = Path(__file__).parents[1] / "migrations"
    return beside if beside.is_dir() else Path(__file__).parents[2] / "migrations"
