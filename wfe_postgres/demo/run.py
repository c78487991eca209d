"""The demo: three worker processes run five orders; one is killed and one is paused during a step."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from rich.console import Console
from sqlalchemy import inspect, text

from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.connections.failures import NOT_PERMITTED
from wfe_postgres.demo.audit import differences, recorded
from wfe_postgres.demo.counters import row_counts
from wfe_postgres.demo.ledger import Ledger
from wfe_postgres.demo.narration import ORDERS, Narration
from wfe_postgres.demo.show import Show
from wfe_postgres.demo.workers import Workers
from wfe_postgres.embedded import EmbeddedPostgres

WORKERS = ("worker-1", "worker-2", "worker-3")
LEASE = 1.5
"""Seconds after which another worker may repeat the step of a worker that does not finish."""

RETRY_BUDGET = 2.0
"""Seconds for retries when the server does not answer."""


def run(
    url: str | None = None, *, schema: str | None = None, keep: bool = False, console: Console | None = None
) -> int:
    """Run the demo and return the exit code: 0, or 1 if an effect was lost or duplicated or an order not finished.

    With a `url` the demo creates a schema in that database and drops it unless `keep`; the schema is named `schema`, or
    gets a random name. Without a `url` it starts a temporary PostgreSQL server.

    Raises `ValueError` for an invalid URL or an existing schema, `EmbeddedPostgresError` if no PostgreSQL can be
    started, `PersistenceError` if the server at `url` cannot be used.
    """
    show = Show(console or Console(highlight=False), WORKERS)
    # The workers start while the server starts, and end before the store is dropped.
    with closing(Workers(WORKERS)) as workers, server(url, show) as address:
        schema = schema or ("wfc" if url is None else f"wfe_demo_{secrets.token_hex(4)}")
        with new_store(address, schema, keep=keep) as provider, closing(workers):
            ledger = Ledger(provider.engine, schema)
            ledger.create()
            introduction(provider, schema, show)
            narration = Narration(provider, workers, show)
            workers.assign(address, schema, LEASE)
            narration.run()
            workers.close()
            show.tables(schema, row_counts(provider.engine, schema))
            if keep:
                show.say(f"The schema was kept. To remove it: DROP SCHEMA {schema} CASCADE")
            return verdict(narration, provider, ledger, show)


@contextmanager
def server(url: str | None, show: Show) -> Iterator[str]:
    """The given URL, or that of a temporary PostgreSQL server."""
    if url is not None:
        yield url
    else:
        show.say("Starting a temporary PostgreSQL server ...")
        with EmbeddedPostgres() as embedded:
            yield embedded.url


@contextmanager
def new_store(url: str, schema: str, *, keep: bool) -> Iterator[PostgresPersistenceProvider]:
    """A provider on a new store, whose schema is dropped afterwards unless `keep`."""
    with PostgresPersistenceProvider(url, schema=schema, retry_budget=RETRY_BUDGET) as provider:
        with suppress(StoreNotReadyError):
            provider.get_statistics()
        if inspect(provider.engine).has_schema(schema):
            raise ValueError(f"schema {schema} already exists; the demo must create and drop its own schema")
        try:
            ensure_store(provider)
            yield provider
        finally:
            if not keep:
                with provider.engine.begin() as connection:
                    connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))


def ensure_store(provider: PostgresPersistenceProvider) -> None:
    """Create the store; `StoreNotReadyError` explains a missing privilege to create a schema."""
    try:
        provider.ensure_store_exists()
    except StoreNotReadyError as error:
        if error.sqlstate != NOT_PERMITTED:
            raise
        reason = "the demo creates a schema, for which the role needs the CREATE privilege on the database"
        raise StoreNotReadyError(reason, error.sqlstate) from None


def introduction(provider: PostgresPersistenceProvider, schema: str, show: Show) -> None:
    """Print an introduction."""
    with provider.engine.connect() as connection:
        version = connection.scalar(text("SELECT split_part(current_setting('server_version'), ' ', 1)"))
    for sentence in (
        f"PostgreSQL {version}, schema {schema}: {len(ORDERS)} orders, {len(WORKERS)} worker processes.",
        "Each step writes a row to demo_effects in the transaction that saves the step.",
        "The worker that picks the vase is killed during the step. The worker that picks",
        "the mirror is paused until another worker has done the step.",
        "",
    ):
        show.say(sentence)


def verdict(narration: Narration, provider: PostgresPersistenceProvider, ledger: Ledger, show: Show) -> int:
    """Compare the recorded with the expected effects, print the result, and return the exit code."""
    unfinished = narration.unfinished()
    in_table = ledger.effects()
    in_data = recorded(provider.get_workflow_instances(list(narration.orders)))
    faults = [
        *(f"NOT FINISHED: {order}" for order in unfinished),
        *(f"CRASHED: {worker} exited unexpectedly" for worker in narration.crashed),
        *differences(narration.expected, in_table, narration.orders, "demo_effects"),
        *differences(narration.expected, in_data, narration.orders, "the workflows' data"),
    ]
    counts = narration.counts
    show.say(
        f"Steps started: {counts['starts']}. Failed: {counts['failed']}, killed: {len(narration.killed)}, "
        f"refused: {counts['refused']}."
    )
    show.say(
        f"Effects expected: {narration.expected.total()}. Recorded: {in_table.total()} in demo_effects, "
        f"{in_data.total()} in the workflows' data."
    )
    for fault in faults:
        show.say(fault, "bold red")
    if faults:
        show.say("The demo failed.", "bold red")
    else:
        show.say("No effect was lost or duplicated.", "bold green")
    return int(bool(faults))
