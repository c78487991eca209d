"""The demo: three worker processes run orders; one is killed and one is paused during a step."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from rich.console import Console
from sqlalchemy import inspect, text

from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.connections.failures import NOT_PERMITTED
from wfe_postgres.demo.audit import differences, recorded
from wfe_postgres.demo.counters import row_counts
from wfe_postgres.demo.ledger import TABLE, Ledger
from wfe_postgres.demo.narration import Narration
from wfe_postgres.demo.scenario import Fault
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
    gets a random name. A schema of this name that an earlier demo kept is replaced. Without a `url` the demo starts a
    temporary PostgreSQL server.

    Raises `ValueError` for an invalid URL or a schema of somebody else, `EmbeddedPostgresError` if no PostgreSQL can be
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
        catalogue = inspect(provider.engine)
        if catalogue.has_table(TABLE, schema=schema):
            drop(provider, schema)
        elif catalogue.has_schema(schema):
            raise ValueError(f"schema {schema} already exists; the demo must create and drop its own schema")
        try:
            ensure_store(provider)
            yield provider
        finally:
            if not keep:
                drop(provider, schema)


def drop(provider: PostgresPersistenceProvider, schema: str) -> None:
    """Drop the demo's schema. `schema` must not need quoting."""
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
        database = connection.scalar(text("SELECT current_database()"))
    show.say(f"PostgreSQL {version}, database {database}, schema {schema}.")
    show.say(f"{len(WORKERS)} worker processes run orders. Each step writes a row to the table demo_effects")
    show.say("in the transaction that saves the step.")


def verdict(narration: Narration, provider: PostgresPersistenceProvider, ledger: Ledger, show: Show) -> int:
    """Compare the recorded with the expected effects, print the result, and return the exit code."""
    in_table = ledger.effects()
    in_data = recorded(provider.get_workflow_instances(list(narration.orders)))
    failures = [
        *(f"NOT FINISHED: {order}" for order in narration.unfinished()),
        *(f"CRASHED: {worker} exited unexpectedly" for worker in narration.crashed),
        *differences(narration.expected, in_table, narration.orders, "demo_effects"),
        *differences(narration.expected, in_data, narration.orders, "the workflows' data"),
    ]
    ids = {name: id for id, name in narration.orders.items()}
    for fault in narration.faults:
        for sentence in consequences(fault, ledger.workers(ids[fault.order], fault.effect)):
            show.say(sentence)
    show.say(
        f"Effects expected: {narration.expected.total()}. Recorded: {in_table.total()} in demo_effects, "
        f"{in_data.total()} in the workflows' data."
    )
    for failure in failures:
        show.say(failure, "bold red")
    if failures:
        show.say("The demo failed.", "bold red")
    else:
        show.say("No effect was lost or duplicated.", "bold green")
    return int(bool(failures))


def consequences(fault: Fault, recorded_by: Sequence[str]) -> Iterator[str]:
    """Yield what happened to the worker, who did its step, and how often the effect was recorded."""
    yield f"{fault.worker} was {fault.what} during {fault.step!r} of {fault.order}."
    who = f"{fault.successor} took the step over" if fault.successor else "It had just saved the step"
    times = "once" if len(recorded_by) == 1 else f"{len(recorded_by)} times"
    yield f"  {who}: {fault.effect!r} is recorded {times}" + (f", by {', '.join(recorded_by)}." if recorded_by else ".")
    if fault.refused:
        yield f"  The late save of {fault.worker} was refused and rolled back."
