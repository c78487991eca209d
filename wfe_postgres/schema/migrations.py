"""Runs the migrations. The only module that imports alembic, and only when it is needed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from sqlalchemy import Engine

from wfe_postgres.connections.failures import CATCHABLE, classify, sqlstate_of
from wfe_postgres.contract.errors import StoreNotReadyError, WfeError
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.revisions import scripts_directory

UPGRADE_TIMEOUT = 600.0
"""Seconds that an upgrade waits in all: for other upgrades to end, and for transactions to let go of a table."""

# `alembic.context` is a module global: two upgrades in one process would work on each other's connection.
_alembic = threading.Lock()


def upgrade_script(schema: str = SCHEMA) -> str:
    """The SQL of all migrations, for a DBA to run with psql on a database that is empty or was a Rust host's alone."""
    from alembic import command
    from alembic.config import Config

    printed = StringIO()
    config = Config(output_buffer=printed, attributes={"schema": schema})
    config.set_main_option("script_location", str(scripts_directory()).replace("%", "%%"))
    with one_at_a_time(UPGRADE_TIMEOUT, schema):
        command.upgrade(config, "head", sql=True)
    return printed.getvalue()


def run_migrations(engine: Engine, schema: str, timeout: float) -> WfeError | None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"engine": engine, "schema": schema, "timeout": timeout})
    config.set_main_option("script_location", str(scripts_directory()).replace("%", "%%"))
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
def one_at_a_time(timeout: float, schema: str) -> Iterator[None]:
    if not _alembic.acquire(timeout=max(timeout, 0)):
        raise StoreNotReadyError(f"another thread is still upgrading a store; schema {schema} has to wait")
    try:
        yield
    finally:
        _alembic.release()
