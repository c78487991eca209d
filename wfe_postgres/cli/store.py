"""`demo`, `upgrade` and `check`: the store as a whole."""

import signal
import sys
from typing import Annotated

import typer

from wfe_postgres import schema as store
from wfe_postgres.cli.options import Schema, Url
from wfe_postgres.cli.provider import ExitCode, provider_on, reported_errors
from wfe_postgres.cli.text import in_one_line
from wfe_postgres.codec.validation import schema_name
from wfe_postgres.orm import SCHEMA


def upgrade(
    url: Url = None,
    schema: Schema = SCHEMA,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for psql, and change nothing.")] = False,
) -> None:
    """Create the store, or bring it up to date.

    Any number of programs may do so at once, and hosts may be working. No try waits longer than 2 seconds for a
    table.

    \b
    Example:
      wfe-postgres upgrade --url postgresql://wfe:wfe@localhost:5433/wfe_test
    \b
    Exit codes:
      0  the store is up to date
      2  it is newer than this library, or may not be changed
      3  the database cannot be reached, or refuses
    """
    if sql:
        with reported_errors(url):
            typer.echo(store.upgrade_script(schema_name(schema)))
        return
    with reported_errors(url), provider_on(url, schema) as provider:
        store.upgrade(provider.engine, schema)
    typer.echo(f"The store in schema {schema} is up to date, at revision {store.HEAD}.")


def check(url: Url = None, schema: Schema = SCHEMA) -> None:
    """Compare the store with what it should be.

    Columns, defaults, constraints, indexes (also whether they are valid), triggers, functions and sequences.

    \b
    Example:
      wfe-postgres check --url postgresql://wfe:wfe@localhost:5433/wfe_test
    \b
    Exit codes:
      0  the store is as it should be
      1  it differs; the differences are listed, one a line
      2  it is missing, or older or newer than this library
      3  the database cannot be reached, or refuses
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        differences = store.check(provider.engine, schema)
    for difference in differences:
        typer.echo(in_one_line(difference))
    if differences:
        raise typer.Exit(ExitCode.NO)
    typer.echo(f"The store in schema {schema} is as it should be, at revision {store.HEAD}.")


def demo(
    url: Url = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="NAME", help="What to call the demo's own schema; must not exist."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the schema in the database at --url.")] = False,
) -> None:
    """Kill workers, and count that nothing was lost.

    Three worker processes run orders by an example host; one is killed and one frozen in the middle of a step.
    Without --url it starts a PostgreSQL of its own, which is gone afterwards. With --url it works in a schema of its
    own and drops it in the end.

    \b
    Example:
      wfe-postgres demo
    \b
    Exit codes:
      0  no step's effect was lost or doubled
      1  one was, or an order was not done in time
      2  the demo may not make its schema there
      3  the database cannot be reached, or refuses
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # cleans up, as Ctrl-C does
    with reported_errors(url):
        from wfe_postgres.demo.run import run

        raise typer.Exit(run(url, schema=schema, keep=keep))
