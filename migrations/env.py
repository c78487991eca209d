"""Run the migrations: under a lock that all processes share, each revision in a transaction of its own.

Bare `alembic` takes the database from WFE_DATABASE_URL and the schema from `-x schema=` or WFE_SCHEMA.
`wfe_postgres.schema` hands in its engine and schema as the configuration's attributes `engine` and `schema`,
and as `timeout` how many seconds all waiting may last (600 by default).

Nothing is set for a session, so that this works through PgBouncer's transaction mode, and no attempt waits
longer than 2 seconds for a table. Only CREATE INDEX CONCURRENTLY, which nobody has to wait for, takes its time.
"""

import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections.engines import parse_url
from wfe_postgres.orm import SCHEMA, Base
from wfe_postgres.orm.base import version_table
from wfe_postgres.schema.revisions import STORE_FUNCTION, TABLES

REFUSED = "WFE01"  # raised by the versions' own checks; the message is meant for people
NO_SCHEMA = "3F000"
CANCELLED = "57014"
NEEDED = "2BP01"
BUSY = {"55P03", "40P01"}  # lock_timeout, deadlock: the attempt is undone, another may do better
LONGEST_PAUSE = 1.0  # seconds
DOWNGRADE = "downgrade"

# A function of the store tells that `alembic_version` is the store's and not an application's. In schema public that
# name is left to the application. A store of which no table is left is made anew.
CREATE_SCHEMA = """
DO $schema$
DECLARE
  is_ours boolean := pg_catalog.to_regproc('{schema}.{marker}') IS NOT NULL;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{schema}') THEN
    CREATE SCHEMA {schema};
  END IF;
  IF is_ours AND '{version}' <> 'alembic_version' AND pg_catalog.to_regclass('{schema}.{version}') IS NULL
     AND pg_catalog.to_regclass('{schema}.alembic_version') IS NOT NULL THEN
    ALTER TABLE {schema}.alembic_version RENAME CONSTRAINT alembic_version_pkc TO {version}_pkc;
    ALTER TABLE {schema}.alembic_version RENAME TO {version};
  END IF;
  IF pg_catalog.to_regclass('{schema}.{version}') IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = '{schema}' AND c.relname = ANY ('{tables}')) THEN
    IF NOT is_ours AND EXISTS (SELECT FROM {schema}.{version}) THEN
      RAISE EXCEPTION USING ERRCODE = 'WFE01',
        MESSAGE = 'the table {schema}.{version} is of another program: give the store a schema of its own';
    END IF;
    DELETE FROM {schema}.{version};
  END IF;
END
$schema$
"""

# For this transaction only. With nothing but pg_catalog on the path every name in a definition is qualified.
SETTINGS = """
SELECT set_config('search_path', 'pg_catalog', true), set_config('quote_all_identifiers', 'off', true),
       (SELECT count(set_config(name, CASE name WHEN 'lock_timeout' THEN '2s' ELSE '0' END, true))
          FROM pg_settings
         WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout',
                        'idle_in_transaction_session_timeout'))
"""
# For the session, because CREATE INDEX CONCURRENTLY runs outside of a transaction. Only in a session of our own: where
# the server's process is not the one that the connection was told of, a pooler has others use it, too.
NO_TIMEOUTS = """
SELECT count(set_config(name, '0', false))
  FROM pg_catalog.pg_settings
 WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout') AND pg_backend_pid() = :pid
"""
# As the last statement of a transaction that stays open: it fails if the connection is gone, and keeps no
# snapshot, as a SELECT can do until the next statement. CREATE INDEX CONCURRENTLY would wait for that one.
REST = "SET LOCAL idle_in_transaction_session_timeout = 0"
PRINTED_BEGIN = (
    "BEGIN;\n\nSET LOCAL search_path = pg_catalog;\n\nSET LOCAL lock_timeout = '2s';"
    "\n\nSET LOCAL quote_all_identifiers = off;"
)
# What psql is told before and after an upgrade, and for each revision, so that a second run changes nothing.
PRINTED_START = r"""\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET statement_timeout = 0;
SET lock_timeout = 0;

"""
PRINTED_NEW = r"""SELECT pg_catalog.to_regclass('{version}') IS NULL AS pending \gset
\if :pending
\else
SELECT NOT EXISTS (SELECT FROM {version}) AS pending \gset
\endif
"""
PRINTED_NEXT = r"""SELECT EXISTS (SELECT FROM {version} WHERE version_num = '{before}') AS pending \gset
"""
PRINTED_IF = r"""\if :pending
{statements}\endif

"""
PRINTED_END = """DO $done$
BEGIN
  IF NOT EXISTS (SELECT FROM {version} WHERE version_num >= '{revision}') THEN
    RAISE EXCEPTION 'this script upgrades a store to revision {revision}, but not from the revision of this one';
  END IF;
END
$done$;

RESET lock_timeout;
RESET statement_timeout;
RESET client_min_messages;
"""


def store_schema() -> str:
    """The schema's name. CommandError: it would have to be quoted, which the DDL does not."""
    arguments = context.get_x_argument(as_dictionary=True)
    name = context.config.attributes.get("schema") or arguments.get("schema") or os.environ.get("WFE_SCHEMA")
    try:
        return schema_name(name or SCHEMA)
    except ValueError as error:
        reason = str(error)
    raise CommandError(reason)


def database() -> Engine:
    """The engine handed in, or one for WFE_DATABASE_URL."""
    given: Engine | None = context.config.attributes.get("engine")
    if given is not None:
        return given
    url = os.environ.get("WFE_DATABASE_URL")
    if not url:
        raise CommandError("set WFE_DATABASE_URL: postgresql://user:password@host:port/database")
    return create_engine(
        parse_url(url),
        poolclass=NullPool,
        connect_args={"prepare_threshold": None},
    )


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """A connection like the engine's, beside its pool: that may have one only, and the caller may hold it."""
    beside = create_engine(engine.url, pool=engine.pool.recreate())
    try:
        with beside.connect() as connection:
            connection.connection.commit()  # a listener of the application's may have begun a transaction
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                connection.execute(text(NO_TIMEOUTS), {"pid": pid})
            event.listen(connection, "begin", lambda it: it.execute(text(SETTINGS)))
            yield connection
    finally:
        beside.dispose()


def pauses(deadline: float) -> Iterator[float]:
    """Ever longer pauses in seconds, with jitter, until the deadline; one at least."""
    pause = 0.05
    while True:
        yield random.uniform(pause / 2, pause)
        if time.monotonic() >= deadline:
            return
        pause = min(1.5 * pause, LONGEST_PAUSE)


@contextmanager
def locked(engine: Engine, schema: str, deadline: float) -> Iterator[Connection]:
    """Hold the upgrade lock of this schema in a connection of its own, which is given to look whether it lives.

    Waiting inside `pg_advisory_xact_lock` would hold a snapshot that CREATE INDEX CONCURRENTLY of the lock's
    owner waits for, so each try is a transaction of its own.
    """
    key = hashlib.sha256(f"wfe_postgres migrations {schema}".encode()).digest()[:8]
    attempt = text("SELECT pg_try_advisory_xact_lock(:key)").bindparams(
        key=int.from_bytes(key, signed=True),
    )
    with connected(engine) as connection:
        for pause in pauses(deadline):
            with connection.begin():
                if connection.scalar(attempt):
                    connection.exec_driver_sql(REST)
                    yield connection
                    return
            time.sleep(pause)
    raise CommandError(f"another process is still upgrading schema {schema}: try again later")


def migrate(engine: Engine, schema: str, command: str, lock: Connection | None) -> None:
    """One attempt: an upgrade commits every revision, a downgrade all of them together."""
    with connected(engine) as connection:
        # What SQLAlchemy takes for the default schema it reports without a name, and it might be the store's.
        connection.dialect.default_schema_name = "pg_catalog"
        names = admitted(schema)

        def assure_lock(*_: object, **__: object) -> None:
            if lock:
                lock.exec_driver_sql(REST)  # fails where the lock was lost, before the revision is committed

        context.configure(
            connection=connection,
            transaction_per_migration=command != DOWNGRADE,
            on_version_apply=assure_lock,
            target_metadata=mapped(schema),
            include_schemas=True,
            include_name=lambda name, kind, _: name in names.get(kind, (name,)),
            version_table=version_table(schema),
            version_table_schema=schema,
        )
        with context.begin_transaction():
            if lock and command != DOWNGRADE:
                context.execute(create_schema(schema))
            context.run_migrations()


def create_schema(schema: str) -> str:
    tables = "{" + ",".join(sorted(TABLES)) + "}"
    return CREATE_SCHEMA.format(schema=schema, version=version_table(schema), marker=STORE_FUNCTION, tables=tables)


def mapped(schema: str) -> MetaData:
    """The mapped tables, as they would be in this schema."""
    if schema == SCHEMA:
        return Base.metadata
    moved = MetaData(schema=schema, naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        table.to_metadata(moved, schema=schema)
    return moved


def admitted(schema: str) -> dict[str, set[str]]:
    """What autogenerate may look at: this schema and its seven tables, nothing of anybody else."""
    return {"schema": {schema}, "table": {table.name for table in Base.metadata.tables.values()}}


def sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def for_people(error: DBAPIError, schema: str) -> CommandError | None:
    """One line instead of a traceback, where the reason is the store and not a fault."""
    if sqlstate(error) == REFUSED:
        return CommandError(str(error.orig.diag.message_primary))  # type: ignore[union-attr]
    if sqlstate(error) == NO_SCHEMA:
        return CommandError(f"there is no store in schema {schema}: run `alembic upgrade head`")
    if sqlstate(error) == CANCELLED:
        return CommandError(
            "a statement was cancelled, by a user or by a timeout of the role that a connection pooler keeps: connect "
            "to the server itself, or raise statement_timeout; an upgrade that is run again goes on where it stopped"
        )
    if sqlstate(error) == NEEDED:
        return CommandError(f"drop what depends on the store's keys, and add it again afterwards: {needed_by(error)}")
    return None


def needed_by(error: DBAPIError) -> str:
    return str(error.orig.diag.message_detail)  # type: ignore[union-attr]


def command_at_work() -> str:
    """Which of Alembic's commands this is: it tells env.py in no other way."""
    context.configure(dialect_name="postgresql")
    return str(context.get_context().opts["fn"].__name__)


def changes_something() -> bool:
    """Only commands that change the store have a destination."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def change(engine: Engine, schema: str, command: str) -> None:
    """Hold the lock and try until it is done or the time is over."""
    deadline = time.monotonic() + context.config.attributes.get("timeout", 600.0)
    with locked(engine, schema, deadline) as lock:
        attempts = [partial(migrate, engine, schema, command, lock)]
        attempts += [partial(repair, engine, statements) for statements in context.config.attributes.get("repairs", ())]
        for attempt in attempts:
            retry(attempt, schema, deadline)


def retry(attempt: Callable[[], None], schema: str, deadline: float) -> None:
    """Until no other transaction holds what the attempt needs, or the time is over."""
    for pause in pauses(deadline):
        try:
            return attempt()
        except DBAPIError as error:
            if sqlstate(error) not in BUSY:
                raise
        time.sleep(pause)
    raise CommandError(f"the tables of schema {schema} are in use by a long transaction: try again later")


def repair(engine: Engine, statements: Sequence[str]) -> None:
    """Each in a transaction of its own, but for those that allow none."""
    with connected(engine) as connection:
        for statement in statements:
            level = "AUTOCOMMIT" if " CONCURRENTLY " in statement else "READ COMMITTED"
            with connection.execution_options(isolation_level=level).begin():
                connection.exec_driver_sql(statement)


def run_online(schema: str) -> None:
    engine, command = database(), command_at_work()
    try:
        if changes_something():
            change(engine, schema, command)
        else:
            migrate(engine, schema, command, None)
    except DBAPIError as error:
        raise for_people(error, schema) or error from None


def run_offline(schema: str) -> None:
    """Print the same statements; those that depend on what is there are DO blocks."""
    command, printed = command_at_work(), StringIO()
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        output_buffer=printed,
        transaction_per_migration=command != DOWNGRADE,
        version_table=version_table(schema),
        version_table_schema=schema,
    )
    with context.begin_transaction():
        context.run_migrations()
    script = printed.getvalue()
    if command != DOWNGRADE:
        script = printed_for_psql(script, schema)
    script = re.sub("^BEGIN;$", PRINTED_BEGIN, script, flags=re.MULTILINE)
    (context.config.output_buffer or sys.stdout).write(script)


def printed_for_psql(script: str, schema: str) -> str:
    """Each revision only where the store is at the one before."""
    version, done = f"{schema}.{version_table(schema)}", PRINTED_START + create_schema(schema).strip() + ";\n\n"
    script = re.sub(f"^CREATE TABLE {version} ", f"CREATE TABLE IF NOT EXISTS {version} ", script, flags=re.MULTILINE)
    script = script.replace(f" RETURNING {version}.version_num;", ";")
    for part in re.split(r"^(?=BEGIN;\n\n(?:CREATE TABLE [^;]+;\n\n)?-- Running)", script, flags=re.MULTILINE):
        if found := re.search(r"^-- Running upgrade (\w*) ?-> \w+$", part, flags=re.MULTILINE):
            before = found[1]
            done += (PRINTED_NEXT if before else PRINTED_NEW).format(version=version, before=before)
            done += PRINTED_IF.format(statements=part)
    return done + PRINTED_END.format(version=version, revision=context.get_revision_argument())


if context.is_offline_mode():
    run_offline(store_schema())
else:
    run_online(store_schema())
