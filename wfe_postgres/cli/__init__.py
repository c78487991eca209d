"""The command `wfe-postgres`: results on standard output, reported_errors on standard error, in one line.

A new command is a function that does its work under `reported_errors()`, and a line here. Values of data and of events
are never shown, also not as JSON: they are the customers'.
"""

from typing import Annotated

import typer

from wfe_postgres.cli.control import resume, suspend, terminate
from wfe_postgres.cli.lists import errors, events, list_workflows
from wfe_postgres.cli.overview import status
from wfe_postgres.cli.purging import purge, purge_events
from wfe_postgres.cli.showing import show
from wfe_postgres.cli.store import check, demo, upgrade

app: typer.Typer = typer.Typer(
    help="The PostgreSQL store of the WFE workflow engine.",
    epilog="""\b
Exit codes of every command:
  0    it is done, or as it should be
  1    the answer is no: the store differs, there is no such workflow,
       it is finished, others were faster
  2    the store is missing, or older or newer than this library; or the
       command line is wrong
  3    the database cannot be reached, or refuses
  130  stopped by Ctrl-C; what was done before stays done
\b
Every command has a --help with an example. --url and --schema may stand in
WFE_DATABASE_URL and WFE_SCHEMA. Times are UTC.
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
app.command()(terminate)
app.command()(purge)
app.command()(purge_events)
