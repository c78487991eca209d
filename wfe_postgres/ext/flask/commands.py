"""`flask wfe`: commands of the command `wfe-postgres`, on the store and the host of the application."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

from wfe_postgres.ext.commands import command_of_application, provider_for_command, require_definitions
from wfe_postgres.host import WorkflowHost
from wfe_postgres.provider import PostgresPersistenceProvider

if TYPE_CHECKING:
    from wfe_postgres.ext.flask.extension import Workflows

commands: AppGroup = AppGroup("wfe", help="The store of the workflows, and what runs them.")


@commands.command()
def upgrade() -> None:
    """Create, upgrade or repair the store."""
    with _provider() as provider:
        from wfe_postgres.cli.store import upgrade_store

        if not upgrade_store(provider):
            sys.exit(1)


@commands.command()
def check() -> None:
    """Compare the store with its schema."""
    with _provider() as provider:
        from wfe_postgres.cli.store import check_store

        check_store(provider)


@commands.command()
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option("--every", metavar="SECONDS", type=click.FloatRange(0.1), default=2.0, help="Interval for --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(watch: bool, every: float, as_json: bool) -> None:
    """Show the backlog and the table sizes."""
    with _provider() as provider:
        from wfe_postgres.cli.overview import show_status

        show_status(provider, watch, every, as_json)


@commands.command()
@click.option("--processes", metavar="N", type=click.IntRange(1), help="Run N processes, and replace them.")
@click.option("--threads", metavar="N", type=click.IntRange(1), help="Threads of each process.")
@click.option("--stop-timeout", metavar="SECONDS", type=click.FloatRange(0), help="Stop without waiting longer.")
@click.option("--supervisor", type=int, hidden=True)
def work(processes: int | None, threads: int | None, stop_timeout: float | None, supervisor: int | None) -> None:
    """Run the workflows of the application, until SIGTERM or SIGINT."""
    with _command():
        from wfe_postgres.cli.working import work_for

        work_for(_host, processes, threads, stop_timeout, supervisor)


def _host() -> WorkflowHost:
    hint = "pass them to WFE(definitions=...), or to its register()"
    return require_definitions(_workflows().host, hint)


def _workflows() -> "Workflows":
    found: Workflows = current_app.extensions["wfe"]
    return found


@contextmanager
def _provider() -> Iterator[PostgresPersistenceProvider]:
    with _command(), provider_for_command(lambda: _workflows().provider) as provider:
        yield provider


def _command() -> AbstractContextManager[None]:
    return command_of_application("flask wfe", "flask wfe upgrade", click.ClickException)
