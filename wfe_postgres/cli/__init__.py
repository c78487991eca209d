"""The command `wfe-postgres`: results on standard output, errors on standard error, one line each.

To add a command, write a function that does its work inside `reported_errors()` and register it here. Workflow data
and event payloads are never printed, not even with --json: they may contain customer data.
"""

from typing import Annotated

import typer

from wfe_postgres.cli.control import resume, retry, suspend, terminate
from wfe_postgres.cli.lists import errors, events, list_workflows
from wfe_postgres.cli.overview import status
from wfe_postgres.cli.publishing import publish
from wfe_postgres.cli.purging import purge, purge_events
from wfe_postgres.cli.showing import show
from wfe_postgres.cli.store import check, demo, upgrade

app: typer.Typer = typer.Typer(
    help="The PostgreSQL store of the WFE workflow engine.",
    epilog="""\b
Exit codes of every command:
  0    success
  1    negative result: the store has differences, the workflow does not
       exist or is finished, or concurrent changes prevented the save
  2    the store is missing, its schema revision is older or newer than
       this library's, or the command line is invalid
  3    the database is not reachable, or refused the operation
  130  interrupted by Ctrl-C; committed changes are kept
\b
Every command has a --help with an example. The environment variables
WFE_DATABASE_URL and WFE_SCHEMA replace --url and --schema. Times are UTC.
""",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def common(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if show_version:
        from importlib.metadata import version

        typer.echo(version("wfe-postgres"))
        raise typer.Exit


app.command()(demo)
app.command()(upgrade)
app.command()(check)
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
