"""The demo: three worker processes run five orders; one is killed, one frozen in the middle of a step."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from rich.console import Console
from sqlalchemy import inspect, text

from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.connections.failures import NOT_PERMITTED
from wfe_postgres.demo.audit import differences, recorded
from wfe_postgres.demo.counters import tally
from wfe_postgres.demo.ledger import Ledger
from wfe_postgres.demo.narration import ORDERS, Story
from wfe_postgres.demo.show import Show
from wfe_postgres.demo.workers import Crew
from wfe_postgres.embedded import EmbeddedPostgres

WORKERS = ("worker-1", "worker-2", "worker-3")
LEASE = 1.5
"""Seconds after which a worker's silence counts as its end."""

RETRY_BUDGET = 2.0
"""Seconds for a server that does not answer."""


def run(
    url: str | None = None, *, schema: str | None = None, keep: bool = False, console: Console | None = None
) -> int:
    """Play the demo and return the exit code: 0, or 1 when an effect was lost or doubled or an order not done.

    With a `url` it works there, in a schema that it makes and, unless `keep`, drops: `schema`, or one with a name
    of its own. Without a `url` it starts a PostgreSQL that is gone afterwards.

    Raises `ValueError` for a bad URL or a schema that is there already, `EmbeddedPostgresError` when there is no
    PostgreSQL to start, `PersistenceError` when the one at `url` cannot be used.
    """
    show = Show(console or Console(highlight=False), WORKERS)
    # The workers start up while the server does, and end before the store goes.
    with closing(Crew(WORKERS)) as crew, server(url, show) as address:
        schema = schema or ("wfc" if url is None else f"wfe_demo_{secrets.token_hex(4)}")
        with new_store(address, schema, keep=keep) as provider, closing(crew):
            ledger = Ledger(provider.engine, schema)
            ledger.create()
            prologue(provider, schema, show)
            story = Story(provider, crew, show)
            crew.assign(address, schema, LEASE)
            story.play()
            crew.close()
            show.tables(schema, tally(provider.engine, schema))
            if keep:
                show.say(f"It is kept. To be rid of it: DROP SCHEMA {schema} CASCADE")
            return verdict(story, provider, ledger, show)


@contextmanager
def server(url: str | None, show: Show) -> Iterator[str]:
    """The URL, if there is one, else that of a PostgreSQL which is gone afterwards."""
    if url is not None:
        yield url
    else:
        show.say("Starting a PostgreSQL ...")
        with EmbeddedPostgres() as embedded:
            yield embedded.url


@contextmanager
def new_store(url: str, schema: str, *, keep: bool) -> Iterator[PostgresPersistenceProvider]:
    """A provider on a store made for this; afterwards its schema is dropped, unless `keep`."""
    with PostgresPersistenceProvider(url, schema=schema, retry_budget=RETRY_BUDGET) as provider:
        with suppress(StoreNotReadyError):
            provider.get_statistics()
        if inspect(provider.engine).has_schema(schema):
            raise ValueError(f"there is a schema {schema} already, and the demo wants to make and drop its own")
        try:
            ensure_store(provider)
            yield provider
        finally:
            if not keep:
                with provider.engine.begin() as connection:
                    connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))


def ensure_store(provider: PostgresPersistenceProvider) -> None:
    """Migrate; StoreNotReadyError says it plainly when the role may not make a schema."""
    try:
        provider.ensure_store_exists()
    except StoreNotReadyError as error:
        if error.sqlstate != NOT_PERMITTED:
            raise
        reason = "the demo makes a schema of its own, for which its role needs the right to CREATE in the database"
        raise StoreNotReadyError(reason, error.sqlstate) from None


def prologue(provider: PostgresPersistenceProvider, schema: str, show: Show) -> None:
    """Say what is going to be seen."""
    with provider.engine.connect() as connection:
        version = connection.scalar(text("SELECT split_part(current_setting('server_version'), ' ', 1)"))
    for sentence in (
        f"PostgreSQL {version}, schema {schema}: {len(ORDERS)} orders, {len(WORKERS)} worker processes.",
        "Each step writes a row into demo_effects in the transaction that saves it. In",
        "the middle of that, who picks the vase is killed; who picks the mirror is frozen",
        "until another has done it.",
        "",
    ):
        show.say(sentence)


def verdict(story: Story, provider: PostgresPersistenceProvider, ledger: Ledger, show: Show) -> int:
    """Count what was recorded against what was due, say so, and return the exit code."""
    unfinished = story.unfinished()
    in_table = ledger.effects()
    in_data = recorded(provider.get_workflow_instances(list(story.orders)))
    faults = [
        *(f"NOT DONE: {order}" for order in unfinished),
        *(f"CRASHED: {worker}, which nobody had killed" for worker in story.crashed),
        *differences(story.expected, in_table, story.orders, "demo_effects"),
        *differences(story.expected, in_data, story.orders, "the workflows' data"),
    ]
    counts = story.counts
    show.say(
        f"Steps started: {counts['starts']}. Failed: {counts['failed']}, killed: {len(story.killed)}, "
        f"refused: {counts['refused']}."
    )
    show.say(
        f"Effects due: {story.expected.total()}. Recorded: {in_table.total()} in demo_effects, "
        f"{in_data.total()} in the workflows' data."
    )
    for fault in faults:
        show.say(fault, "bold red")
    if faults:
        show.say("This is not how it should be.", "bold red")
    else:
        show.say("No step's effect was lost, and none was doubled.", "bold green")
    return int(bool(faults))
