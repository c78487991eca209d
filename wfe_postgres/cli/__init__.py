"""The command `wfe-postgres`: results on standard output, errors on standard error, one line each.

To add a command, write a function that does its work inside `reported_errors()` and register it here. Workflow data
and event payloads are never printed, not even with --json: they may contain customer data.
"""

import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from wfe_postgres.cli.control import resume, retry, suspend, terminate
from wfe_postgres.cli.errors import errors
from wfe_postgres.cli.lists import events, list_workflows
from wfe_postgres.cli.options import CommonSchema, CommonUrl
from wfe_postgres.cli.overview import status
from wfe_postgres.cli.provider import ExitCode
from wfe_postgres.cli.publishing import publish
from wfe_postgres.cli.purging import purge, purge_errors, purge_events, purge_orphans
from wfe_postgres.cli.screen import discard_output
from wfe_postgres.cli.showing import show
from wfe_postgres.cli.store import check, demo, upgrade
from wfe_postgres.cli.working import work

app: typer.Typer = typer.Typer(
    help="The PostgreSQL store of the WFE workflow engine.",
    epilog="""\b
Exit codes of every command:
  0    success
  1    negative result: the store has differences,
       a workflow does not exist or is finished,
       an event exists, or the answer was no
  2    the store is missing, or at another schema
       revision, or the command line is invalid
  3    the database is unreachable, or refused the call
  4    the output could not be written
  130  interrupted by Ctrl-C; committed changes are kept

Every command has a --help with an example. --url and --schema can stand before or after its name; the environment
variables WFE_DATABASE_URL and WFE_SCHEMA replace them. Times are UTC.
""",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(version("wfe-postgres"))
        raise typer.Exit


@app.callback()
def common(
    url: CommonUrl = None,
    schema: CommonSchema = None,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declares the options that can precede a command's name; see `options.or_common`."""


app.command()(demo)
app.command()(upgrade)
app.command()(check)
app.command()(work)
app.command()(status)
app.command("list")(list_workflows)
app.command()(show)
app.command()(errors)
app.command()(events)
app.command()(suspend)
app.command()(resume)
app.command()(retry)
app.command()(terminate)
app.command()(publish)
app.command()(purge)
app.command()(purge_events)
app.command()(purge_errors)
app.command()(purge_orphans)


def run() -> NoReturn:
    """Run the command; what is left to report is an output that cannot be written, for example to a full disk."""
    try:
        app(prog_name="wfe-postgres")
    except OSError as error:
        discard_output()
        with suppress(OSError):  # if it is standard error that cannot be written
            typer.echo(f"wfe-postgres: cannot write the output: {error.strerror}", err=True)
    sys.exit(ExitCode.NO_OUTPUT)
