"""`demo`, `upgrade` and `check`: commands for the store as a whole."""

import signal
import sys
from typing import Annotated

import typer

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres import schema as store
from wfe_postgres.cli.options import Schema, Url, or_common
from wfe_postgres.cli.provider import ExitCode, provider_on, reported_errors
from wfe_postgres.cli.repairs import print_differences, repair, report_unfinished_upgrade
from wfe_postgres.cli.screen import print_sentence
from wfe_postgres.cli.sessions import confirm_end_of_sessions, end_sessions
from wfe_postgres.cli.text import counted
from wfe_postgres.codec.validation import schema_name
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.revisions import read_in_transaction

PrintSql = Annotated[bool, typer.Option("--sql", help="Print the SQL for psql and change nothing.")]
Start = Annotated[
    str | None,
    typer.Option("--from", metavar="REVISION", show_default=False, help="With --sql: only what follows this revision."),
]
EndSessionsOf = Annotated[
    str | None,
    typer.Option(
        "--end-sessions-of",
        metavar="ROLE",
        show_default=False,
        help="Then end the sessions of this role or application_name.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="End the sessions without asking.")]


def upgrade(
    url: Url = None,
    schema: Schema = SCHEMA,
    sql: PrintSql = False,
    start: Start = None,
    end_sessions_of: EndSessionsOf = None,
    yes: Yes = False,
) -> None:
    """Create, upgrade or repair the store.

    An existing store is upgraded to the latest revision. Missing or changed indexes, constraints, triggers,
    functions, defaults and sequences are made again. What would lose data or lock a table for long is not done; it
    is listed as by `check`.

    The command may run concurrently with other upgrades and while hosts are working. Each attempt waits at most 2
    seconds for a table lock.

    The sessions of a Rust host keep prepared statements that fail after an upgrade from revision 0003 or older.
    With --end-sessions-of the command lists them, asks, and ends them after the upgrade. The host connects again.

    \b
    Example:
      wfe-postgres upgrade --url postgresql:///shop
    \b
    Exit codes:
      0  the store is up to date
      1  the answer was no, or differences are left
      2  the store is newer, or the role may not change it
      3  the database is unreachable, or refused the call
    """
    if start is not None and not (sql and start in store.REVISIONS):
        raise typer.BadParameter(f"with --sql, one of {', '.join(store.REVISIONS)}", param_hint="--from")
    if sql:
        with reported_errors(url):
            typer.echo(store.upgrade_script(schema_name(schema), start), nl=False)
        return
    with reported_errors(url), provider_on(url, schema) as provider:
        if end_sessions_of:
            confirm_end_of_sessions(provider.engine, end_sessions_of, yes=yes)
        is_complete = upgrade_store(provider)
        if end_sessions_of:
            typer.echo(f"{counted(end_sessions(provider.engine, end_sessions_of), 'session')} ended.")
        if not is_complete:
            raise typer.Exit(ExitCode.NO)


def upgrade_store(provider: PostgresPersistenceProvider) -> bool:
    """Create, upgrade or repair the store, and print what is left to do. False: differences are left."""
    engine, schema = provider.engine, provider.schema
    report_unfinished_upgrade(engine, schema)
    store.ensure(engine, schema)
    left = repair(engine, schema)
    print_differences(left, schema)
    state = "is up to date" if not left else "differs from what it should be"
    print_sentence(f"The store in schema {schema} {state}, at revision {store.HEAD}.")
    return not left


def check(url: Url = None, schema: Schema = SCHEMA) -> None:
    """Compare the store with its schema.

    Compares columns, defaults, constraints, indexes and their validity, triggers, functions and sequences. Prints
    for each difference what repairs it.

    \b
    Example:
      wfe-postgres check --url postgresql:///shop
    \b
    Exit codes:
      0  the store matches the expected schema
      1  the differences are listed with their repairs
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        check_store(provider)


def check_store(provider: PostgresPersistenceProvider) -> None:
    """Print the differences between the store and its schema."""
    schema = provider.schema
    differences = read_in_transaction(provider.engine, lambda it: store.compare(it, schema))
    print_differences(differences, schema)
    if differences:
        raise typer.Exit(ExitCode.NO)
    print_sentence(f"The store in schema {schema} is as it should be, at revision {store.HEAD}.")


def demo(
    url: Url = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema", metavar="NAME", help="The schema to create; an earlier demo's is replaced.", callback=or_common
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the schema in the database at --url.")] = False,
) -> None:
    """Run a demo that kills workers.

    Three worker processes run orders with an example host; one is killed and one is paused during a step. At the end
    every step must have taken effect exactly once. Without --url the demo starts a temporary PostgreSQL server. With
    --url it creates a schema and drops it at the end.

    \b
    Example:
      wfe-postgres demo
    \b
    Exit codes:
      0  every step took effect exactly once
      1  a step was lost or duplicated, or a timeout
      2  the role may not create the demo's schema
      3  the database is unreachable, or refused the call
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # run the cleanup, as on Ctrl-C
    with reported_errors(url):
        from wfe_postgres.demo.run import run

        raise typer.Exit(run(url, schema=schema, keep=keep))
