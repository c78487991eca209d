"""The command `wfe-postgres`: results on standard output, complaints on standard error, in one line.

A new command is a function under `@app.command()` that does its work under `complaints()`.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from sqlalchemy import make_url

from wfe_postgres import PersistenceError, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres import schema as store
from wfe_postgres.embedded import EmbeddedPostgresError
from wfe_postgres.repositories.base import plain_schema
from wfe_postgres.rows import SCHEMA

RETRY_BUDGET = 2.0
"""Seconds for a server that does not answer: somebody is sitting before the terminal."""

app: typer.Typer = typer.Typer(
    help="The PostgreSQL store of the WFE workflow engine.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Exit(IntEnum):
    """What the exit codes mean, for every command."""

    FINE = 0
    DIFFERENT = 1
    NOT_READY = 2
    NO_DATABASE = 3


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WFE_DATABASE_URL",
        metavar="URL",
        show_default=False,
        help="The database: postgresql://user:password@host:port/name",
    ),
]
Schema = Annotated[str, typer.Option("--schema", envvar="WFE_SCHEMA", metavar="NAME", help="The schema of the store.")]


@app.callback(invoke_without_command=True)
def common(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(version("wfe-postgres"))
        raise typer.Exit


@app.command()
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
        with complaints(url):
            typer.echo(store.upgrade_script(plain_schema(schema)))
        return
    with complaints(url), provider_on(url, schema) as provider:
        store.upgrade(provider.engine, schema)
    typer.echo(f"The store in schema {schema} is up to date, at revision {store.HEAD}.")


@app.command()
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
    with complaints(url), provider_on(url, schema) as provider:
        differences = store.check(provider.engine, schema)
    for difference in differences:
        typer.echo(in_one_line(difference))
    if differences:
        raise typer.Exit(Exit.DIFFERENT)
    typer.echo(f"The store in schema {schema} is as it should be, at revision {store.HEAD}.")


@app.command()
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
    with complaints(url):
        from wfe_postgres.demo.run import run

        raise typer.Exit(run(url, schema=schema, keep=keep))


@contextmanager
def provider_on(url: str | None, schema: str) -> Iterator[PostgresPersistenceProvider]:
    """The provider for the options; ValueError when one of them is missing or cannot be used."""
    if not url:
        raise ValueError("which database? --url postgresql://user:password@host:port/name, or WFE_DATABASE_URL")
    with PostgresPersistenceProvider(url, schema=schema, retry_budget=RETRY_BUDGET) as provider:
        yield provider


@contextmanager
def complaints(url: str | None) -> Iterator[None]:
    """Turn what people can do something about into one line and an exit code."""
    try:
        yield
    except StoreNotReadyError as error:
        complain(str(error), Exit.NOT_READY)
    except PersistenceError as error:
        complain(str(error).replace("cannot connect:", f"cannot connect{to_address(url)}:", 1), Exit.NO_DATABASE)
    except (EmbeddedPostgresError, ValueError) as error:
        complain(str(error), Exit.NO_DATABASE)


def complain(sentence: str, code: Exit) -> NoReturn:
    """Say in one line what is wrong, and end."""
    typer.echo(f"wfe-postgres: {in_one_line(sentence)}", err=True)
    raise typer.Exit(code)


def to_address(url: str | None) -> str:
    """Where the URL leads, without its password; nothing if an `@` in there leaves a doubt which part that is."""
    if not url or url.count("@") > 1:
        return ""
    parsed = make_url(url)
    return f" to {parsed.set(password=None, query={}).render_as_string().partition('//')[2]}"


def in_one_line(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())
