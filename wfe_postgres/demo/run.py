"""The demo: three worker processes run five orders; one is killed, one frozen in the middle of a step."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import starmap

from rich.console import Console
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.demo.crew import Crew
from wfe_postgres.demo.ledger import Ledger, Mismatch
from wfe_postgres.demo.show import Show
from wfe_postgres.demo.story import Story
from wfe_postgres.demo.tally import tally
from wfe_postgres.demo.worker import Assignment
from wfe_postgres.embedded import EmbeddedPostgres

WORKERS = ("worker-1", "worker-2", "worker-3")
LEASE = 2.0
"""Seconds after which a worker's silence counts as its end."""


def run(
    url: str | None = None, *, schema: str | None = None, keep: bool = False, console: Console | None = None
) -> int:
    """Play the demo and return the exit code: 0, or 1 when an effect was lost or doubled or an order not done.

    With a `url` it works there, in a schema that it makes and, unless `keep`, drops: `schema`, or a name of its own.
    Without one it starts a PostgreSQL that is gone afterwards.

    Raises `ValueError` for a bad URL or a schema that is there already, `EmbeddedPostgresError` when there is no
    PostgreSQL to start, `PersistenceError` when the one at `url` cannot be used.
    """
    show = Show(console or Console(highlight=False), WORKERS)
    with store(url, schema, keep, show) as (engine, schema):
        ledger = Ledger(engine, schema)
        ledger.create()
        provider = PostgresPersistenceProvider.from_engine(engine, schema=schema)
        address = engine.url.render_as_string(hide_password=False)
        with Crew(Assignment(name, address, schema, LEASE) for name in WORKERS) as crew:
            story = Story(provider, crew, show)
            story.play()
        show.tables(schema, tally(engine, schema))
        return verdict(story, ledger, show)


@contextmanager
def store(url: str | None, schema: str | None, keep: bool, show: Show) -> Iterator[tuple[Engine, str]]:
    """A migrated store of the demo's own: its engine and its schema. Gone afterwards, unless `keep`."""
    with ExitStack() as stack:
        own = url is None
        address = stack.enter_context(EmbeddedPostgres()).url if url is None else url
        name = schema or ("wfc" if own else f"wfe_demo_{secrets.token_hex(4)}")
        PostgresPersistenceProvider(address, schema=name).close()  # refuses what is no URL, no name
        engine = create_engine(make_url(address).set(drivername="postgresql+psycopg"))
        stack.callback(engine.dispose)
        provider = PostgresPersistenceProvider.from_engine(engine, schema=name)
        ...
        yield engine, name
