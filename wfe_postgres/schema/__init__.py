"""The store's schema: how old it is, how to bring it up to date, whether it is what it should be.

The only module that imports alembic, and only when it is needed. The scripts lie beside this file in an
installed wheel, and beside the package in a checkout.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, Text, column, select, table, text

from wfe_postgres.connections.deadlines import set_timeout
from wfe_postgres.connections.failures import CATCHABLE, NOT_PERMITTED, classify, sqlstate_of
from wfe_postgres.connections.forks import reset_pool_after_fork
from wfe_postgres.connections.sockets import driver_connection
from wfe_postgres.contract.errors import PersistenceError, StoreNotReadyError, WfeError
from wfe_postgres.orm import SCHEMA, Base

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
HEAD = REVISIONS[-1]
"""The revision that this library works with."""

PATIENCE = 600.0
"""Seconds that an upgrade waits in all: for other upgrades to end, and for transactions to let go of a table."""

TABLES = frozenset(table.name for table in Base.metadata.tables.values())

logger: logging.Logger = logging.getLogger("wfe_postgres")

_NAME_INDEX_OF_THE_RUST_HOST = "index idx_workflows_name"

# `alembic.context` is a module global: two upgrades in one process would work on each other's connection.
_alembic = threading.Lock()

_T = TypeVar("_T")

_TABLES_THERE = text("""
SELECT c.relname::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relkind = 'r'
""")

# What is there, each thing as PostgreSQL itself would write it; not-null constraints (18) stand at the columns.
_CATALOGUE = text("""
WITH relation AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relpersistence, c.relrowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = :schema AND c.relname::text = ANY (:tables)
)
SELECT 'table ' || name,
       CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' ELSE 'relation of kind ' || relkind::text END
       || CASE relpersistence WHEN 'u' THEN ' (unlogged)' ELSE '' END
       || CASE WHEN relrowsecurity THEN ' (with row security)' ELSE '' END
  FROM relation
 UNION ALL
SELECT 'column ' || name || '.' || attname,
       format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
       || CASE WHEN attidentity <> '' THEN ' GENERATED AS IDENTITY' ELSE '' END
       || CASE WHEN attgenerated <> '' THEN ' GENERATED ALWAYS AS ' WHEN d.oid IS NULL THEN ''
               ELSE ' DEFAULT ' END
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
  FROM relation JOIN pg_attribute a ON a.attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 UNION ALL
SELECT 'constraint ' || conname || ' of ' || name, pg_get_constraintdef(c.oid)
  FROM relation JOIN pg_constraint c ON c.conrelid = relation.oid AND contype IN ('p', 'u', 'f', 'c', 'x')
 UNION ALL
SELECT 'index ' || c.relname,
       pg_get_indexdef(i.indexrelid) || CASE WHEN indisvalid AND indisready THEN '' ELSE ' (invalid)' END
  FROM relation JOIN pg_index i ON i.indrelid = relation.oid JOIN pg_class c ON c.oid = i.indexrelid
 WHERE NOT EXISTS (SELECT FROM pg_constraint o
                    WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
 UNION ALL
SELECT 'trigger ' || tgname || ' of ' || name,
       pg_get_triggerdef(t.oid) || CASE tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)'
                                   ELSE ' (enabled as ' || tgenabled::text || ')' END
  FROM relation JOIN pg_trigger t ON t.tgrelid = relation.oid AND NOT tgisinternal
 UNION ALL
SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       pg_get_functiondef(p.oid)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = :schema AND prokind = 'f'
 UNION ALL
SELECT 'sequence ' || c.relname,
       format_type(seqtypid, NULL) || ' INCREMENT ' || seqincrement || CASE WHEN seqcycle THEN ' CYCLE' ELSE '' END
       || coalesce(' OWNED BY ' || relation.name || '.' || attname, '')
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
                       AND d.refclassid = 'pg_class'::regclass
  LEFT JOIN relation ON relation.oid = d.refobjid
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE n.nspname = :schema
""")


# An embedded server is thrown away in the end; for that it need not be safe.
_UNSAFE = text("""
SELECT name FROM pg_catalog.pg_settings
 WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
   AND pg_catalog.current_setting('cluster_name') <> 'wfe_postgres-embedded'
 ORDER BY name
""")


def current_revision(connection: Connection, schema: str = SCHEMA) -> str | None:
    """The revision the store stands at; None: there is none yet.

    Needs USAGE on the schema and nothing else. Runs in the caller's transaction.
    """
    if "alembic_version" not in connection.scalars(_TABLES_THERE, {"schema": schema}):
        return None
    version = column("version_num", Text)
    found = connection.scalars(select(version).select_from(table("alembic_version", schema=schema)))
    return " and ".join(found) or None


def ensure(engine: Engine, schema: str = SCHEMA, *, patience: float = PATIENCE, timeout: float = math.inf) -> None:
    """Create the store, upgrade it, or find that it is up to date: then no DDL is issued.

    StoreNotReadyError: it is newer than this library, incomplete, not what a WFE host made, or this role may
    not change it. Safe to call from any number of threads and processes at once. In seconds: `patience`, how long an
    upgrade waits, and `timeout`, how long the look at the store may take. Logs a warning when fsync or full_page_writes
    is off on a server that is not a private, embedded one.
    """
    found, tables, unsafe = _reading(engine, lambda it: _state(it, schema), timeout)
    for setting in unsafe:
        logger.warning(
            "the server has %s = off: a crash of its machine can lose or destroy what was acknowledged", setting
        )
    if found != HEAD:
        return _upgrade_from(found, engine, schema, patience)
    missing = sorted(TABLES - tables)
    if missing:
        raise StoreNotReadyError(
            f"the store in schema {schema} stands at revision {HEAD}, but tables are missing "
            f"({', '.join(missing)}): restore them from a backup; `wfe-postgres check` lists the differences"
        )
    return None


def upgrade(engine: Engine, schema: str = SCHEMA, *, patience: float = PATIENCE) -> None:
    """Run the migrations that are missing, each in a transaction of its own. Raises as `ensure` does."""
    _upgrade_from(_reading(engine, lambda it: current_revision(it, schema)), engine, schema, patience)


def upgrade_script(schema: str = SCHEMA) -> str:
    """The SQL of all migrations, for a DBA to run with psql on a database that is empty or was a Rust host's alone."""
    from alembic import command
    from alembic.config import Config

    printed = StringIO()
    config = Config(output_buffer=printed, attributes={"schema": schema})
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    with _one_at_a_time(PATIENCE, schema):
        command.upgrade(config, "head", sql=True)
    return printed.getvalue()


def check(engine: Engine, schema: str = SCHEMA) -> list[str]:
    """How the store differs from what it should be, a sentence each; empty: not at all.

    Indexes, triggers, functions and sequences of others are no difference, unless an index is unique.
    StoreNotReadyError: the store is missing, older or newer than this library.
    """
    return _reading(engine, lambda it: differences(it, schema))


def differences(connection: Connection, schema: str = SCHEMA) -> list[str]:
    """As `check`, in the caller's transaction, whose `search_path` it leaves at pg_catalog."""
    found = current_revision(connection, schema)
    if found != HEAD:
        raise StoreNotReadyError(_standing(found, schema))
    wanted, there = _expected(schema), catalogue(connection, schema)
    return [
        *(f"{thing} is missing" for thing in wanted if thing not in there),
        *(
            f"{thing} is «{there[thing]}», should be «{definition}»"
            for thing, definition in wanted.items()
            if there.get(thing, definition) != definition
        ),
        *(
            f"{thing} does not belong here: «{definition}»"
            for thing, definition in there.items()
            if thing not in wanted and _disturbs(thing, definition)
        ),
    ]


def catalogue(connection: Connection, schema: str = SCHEMA) -> dict[str, str]:
    """What PostgreSQL knows of the store: its things by kind and name, with their definitions.

    Leaves the transaction with `search_path` at pg_catalog, so that every name in a definition has its schema.
    """
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    rows = connection.execute(_CATALOGUE, {"schema": schema, "tables": sorted(TABLES)})
    return {str(thing): str(definition) for thing, definition in sorted(map(tuple, rows))}


def _expected(schema: str) -> dict[str, str]:
    written = (_scripts() / "catalogue.json").read_text(encoding="utf-8")
    return {thing: definition.replace("{schema}", schema) for thing, definition in json.loads(written).items()}


def _disturbs(thing: str, definition: str) -> bool:
    """Whether something that is not ours could refuse our rows, or holds what our saves know nothing of."""
    if thing == _NAME_INDEX_OF_THE_RUST_HOST:
        return False  # it makes it at every start, and the name is unique anyway
    return thing.startswith(("column ", "constraint ")) or definition.startswith("CREATE UNIQUE INDEX")


def _state(connection: Connection, schema: str) -> tuple[str | None, set[str], list[str]]:
    """The revision, the tables, and those settings that make a crash unsafe."""
    tables = set(connection.scalars(_TABLES_THERE, {"schema": schema}))
    return current_revision(connection, schema), tables, list(connection.scalars(_UNSAFE))


def _standing(found: str | None, schema: str) -> str:
    """In words, what is wrong with a store that is not at head, and what helps."""
    if found is None:
        return f"there is no store in schema {schema}: run `wfe-postgres upgrade`"
    if found in REVISIONS:
        return (
            f"the store in schema {schema} is at revision {found}, older than this library ({HEAD}): "
            "run `wfe-postgres upgrade`"
        )
    return (
        f"the store in schema {schema} is at revision {found}, newer than this library ({HEAD}): "
        "update the library wfe_postgres"
    )


def _upgrade_from(found: str | None, engine: Engine, schema: str, patience: float) -> None:
    if found is not None and found not in REVISIONS:
        raise StoreNotReadyError(_standing(found, schema))
    deadline = time.monotonic() + patience
    with _one_at_a_time(patience, schema):
        failure = _run_migrations(engine, schema, deadline - time.monotonic())
    if isinstance(failure, PersistenceError) and failure.sqlstate == NOT_PERMITTED:
        raise StoreNotReadyError(
            f"{_standing(found, schema)}, as a role that owns it (this one may not)",
            failure.sqlstate,
            original=failure.original,
        )
    if failure is not None:
        raise failure


def _run_migrations(engine: Engine, schema: str, patience: float) -> WfeError | None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"engine": engine, "schema": schema, "patience": patience})
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        return StoreNotReadyError(str(error))
    except CATCHABLE as error:
        # Without an SQLSTATE, and with nothing to invalidate, no connection was made.
        connected = sqlstate_of(error) is not None or getattr(error, "connection_invalidated", True)
        return classify(error, sent=connected).error
    return None


@contextmanager
def _one_at_a_time(patience: float, schema: str) -> Iterator[None]:
    if not _alembic.acquire(timeout=max(patience, 0)):
        raise StoreNotReadyError(f"another thread is still upgrading a store; schema {schema} has to wait")
    try:
        yield
    finally:
        _alembic.release()


def _reading(engine: Engine, read: Callable[[Connection], _T], timeout: float = math.inf) -> _T:
    """What `read` finds in a transaction of its own; the database's errors become ours."""
    connected = False
    try:
        reset_pool_after_fork(engine)
        with engine.connect() as connection:
            connected = True
            set_timeout(driver_connection(connection), timeout)
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                found = read(connection)
            set_timeout(driver_connection(connection), math.inf)
            return found
    except CATCHABLE as error:
        failure = classify(error, sent=connected).error
    raise failure


def _scripts() -> Path:
    beside = Path(__file__).parents[1] / "migrations"
    return beside if beside.is_dir() else Path(__file__).parents[2] / "migrations"
