"""Runs the migrations. The only module that imports alembic, and only when it is needed."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from sqlalchemy import Engine

from wfe_postgres.connections.failures import CATCHABLE, classify, sqlstate_of
from wfe_postgres.contract.errors import StoreNotReadyError, WfeError
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.revisions import scripts_directory

UPGRADE_TIMEOUT = 600.0
"""Seconds that an upgrade waits in all: for other upgrades to end, and for transactions to let go of a table."""

Repairs = Sequence[Sequence[str]]
"""Statements to run after the migrations; those of one sequence are tried again together."""

# `alembic.context` is a module global: two upgrades in one process would work on each other's connection.
_alembic = threading.Lock()


def upgrade_script(schema: str = SCHEMA, start: str | None = None) -> str:
    """The SQL of the migrations since revision `start`, or of all, for psql. Where nothing is missing it does nothing.

    All: for a database that is empty, was a Rust host's alone, or has a store of any revision.
    """
    printed = StringIO()
    with one_at_a_time(UPGRADE_TIMEOUT, schema):
        _upgrade(f"{start}:head" if start else "head", sql=True, output_buffer=printed, attributes={"schema": schema})
    return printed.getvalue()


def run_migrations(engine: Engine, schema: str, timeout: float, repairs: Repairs = ()) -> WfeError | None:
    from alembic.util import CommandError

    attributes = {"engine": engine, "schema": schema, "timeout": timeout, "repairs": repairs}
    try:
        _upgrade("head", attributes=attributes)
    except CommandError as error:
        return StoreNotReadyError(str(error))
    except CATCHABLE as error:
        # Without an SQLSTATE, and with nothing to invalidate, no connection was made.
        connected = sqlstate_of(error) is not None or getattr(error, "connection_invalidated", True)
        return classify(error, sent=connected).error
    return None


def _upgrade(revision: str, *, sql: bool = False, **options: Any) -> None:
    """Run Alembic. An application's own run that this one takes place in goes on afterwards as it was."""
    from alembic import command, context, op
    from alembic.config import Config

    config = Config(**options)
    config.set_main_option("script_location", str(scripts_directory()).replace("%", "%%"))
    outer = [getattr(module, "_proxy", None) for module in (context, op)]
    try:
        command.upgrade(config, revision, sql=sql)
    finally:
        for proxy in filter(None, outer):
            proxy._install_proxy()


@contextmanager
def one_at_a_time(timeout: float, schema: str) -> Iterator[None]:
    if not _alembic.acquire(timeout=max(timeout, 0)):
        raise StoreNotReadyError(f"another thread is still upgrading a store; schema {schema} has to wait")
    try:
        yield
    finally:
        _alembic.release()
