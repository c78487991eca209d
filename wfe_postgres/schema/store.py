"""Creates a store, upgrades it, or finds that it is up to date."""

import logging
import math
import time

from sqlalchemy import Connection, Engine, text

from wfe_postgres.connections.failures import NOT_PERMITTED
from wfe_postgres.contract.errors import PersistenceError, StoreNotReadyError
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.migrations import UPGRADE_TIMEOUT, Repairs, one_at_a_time, run_migrations
from wfe_postgres.schema.revisions import (
    HEAD,
    REVISIONS,
    TABLES,
    TABLES_THERE,
    current_revision,
    database_encoding,
    describe_revision,
    read_in_transaction,
)

logger: logging.Logger = logging.getLogger("wfe_postgres")

# An embedded server is thrown away in the end; for that it need not be safe.
_UNSAFE = text("""
SELECT name FROM pg_catalog.pg_settings
 WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
   AND pg_catalog.current_setting('cluster_name') <> 'wfe_postgres-embedded'
 ORDER BY name
""")


def ensure(
    engine: Engine, schema: str = SCHEMA, *, timeout: float = UPGRADE_TIMEOUT, read_timeout: float = math.inf
) -> None:
    """Create the store, upgrade it, or find that it is up to date: then no DDL is issued.

    Safe to call from any number of threads and processes at once. In seconds: `timeout`, how long an upgrade waits for
    other upgrades and for locks; `read_timeout`, how long reading the store's revision may take. Logs a warning when
    fsync or full_page_writes is off on a server that is not an embedded one, and when a store that exists is in a
    database of another encoding than UTF8.

    StoreNotReadyError: the store is newer than this library, incomplete, not what a WFE host made, or this role may not
    change it; or there is none yet, and the database's encoding is not UTF8.
    """
    found, missing, unsafe = read_in_transaction(engine, lambda it: _state(it, schema), read_timeout)
    for setting in unsafe:
        logger.warning(
            "the server has %s = off: a crash of its machine can lose or destroy what was acknowledged", setting
        )
    if found != HEAD:
        _upgrade_from(found, engine, schema, timeout)
    elif missing:
        raise StoreNotReadyError(
            f"the store in schema {schema} is at schema revision {HEAD}, but tables are missing "
            f"({', '.join(missing)}): restore them from a backup; `wfe-postgres check` lists the differences"
        )


def upgrade(engine: Engine, schema: str = SCHEMA, *, timeout: float = UPGRADE_TIMEOUT, repairs: Repairs = ()) -> None:
    """Run the migrations that are missing, each in a transaction of its own, and then these statements.

    Raises as `ensure` does.
    """
    found, _, _ = read_in_transaction(engine, lambda it: _state(it, schema))
    _upgrade_from(found, engine, schema, timeout, repairs)


def _state(connection: Connection, schema: str) -> tuple[str | None, list[str], list[str]]:
    """The revision, the tables that are missing, and those settings that make a crash unsafe."""
    found = current_revision(connection, schema)  # first: an upgrade that is committed meanwhile only adds tables
    missing = TABLES.difference(connection.scalars(TABLES_THERE, {"schema": schema}))
    _require_utf8(connection, exists=missing < TABLES)
    return found, sorted(missing), list(connection.scalars(_UNSAFE))


def _require_utf8(connection: Connection, *, exists: bool) -> None:
    """StoreNotReadyError: a new store could not take every text. One that exists goes on working, with a warning."""
    if (encoding := database_encoding(connection)) != "UTF8":
        if not exists:
            raise StoreNotReadyError(
                f"the encoding of the database is {encoding}, and a store needs UTF8: "
                "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )
        logger.warning("the database's encoding %s lacks characters: texts that have them are refused", encoding)


def _upgrade_from(found: str | None, engine: Engine, schema: str, timeout: float, repairs: Repairs = ()) -> None:
    if found is not None and found not in REVISIONS:
        raise StoreNotReadyError(describe_revision(found, schema))
    deadline = time.monotonic() + timeout
    with one_at_a_time(timeout, schema):
        failure = run_migrations(engine, schema, deadline - time.monotonic(), repairs)
    if isinstance(failure, PersistenceError) and failure.sqlstate == NOT_PERMITTED and found != HEAD:
        reason = f"{describe_revision(found, schema)}, as a role that owns it (this one may not)"
        raise StoreNotReadyError(reason, failure.sqlstate, original=failure.original)
    if failure is not None:
        raise failure
