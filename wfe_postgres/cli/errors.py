"""`errors`: list the errors of steps, or group them by kind."""

from datetime import datetime
from typing import Annotated

import typer

from wfe_postgres.cli import error_queries
from wfe_postgres.cli.catalogue import Catalogue
from wfe_postgres.cli.error_queries import find_errors, group_errors
from wfe_postgres.cli.error_tables import display_errors, display_kinds
from wfe_postgres.cli.lookups import find_workflow
from wfe_postgres.cli.options import WHEN, Json, Limit, Schema, Url, text_option, time_option
from wfe_postgres.cli.provider import RETRY_BUDGET, complain, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.orm import SCHEMA


def errors(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[ID-OR-NAME]", show_default=False, help="Only errors of this workflow.")
    ] = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    step: Annotated[
        str | None, text_option("--step", "Only errors of steps with this name or number, or of this pointer id.")
    ] = None,
    since: Annotated[datetime | None, time_option("--since", f"Only errors at or after: {WHEN}.")] = None,
    group: Annotated[bool, typer.Option("--group", help="Group the errors by kind, the most frequent first.")] = False,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List step errors, newest first.

    The messages are those of the exceptions that the steps raised, as stored by the hosts. With --group, errors of
    one step of a definition are of one kind if the first lines of their messages are equal, apart from quoted texts
    and words with digits; the newest message of each kind is shown. Of a Python traceback the line that names the
    exception is compared and shown.

    \b
    Example:
      wfe-postgres errors --since 1h --group
    \b
    Exit codes:
      0  success, also if nothing was found
      1  the workflow does not exist
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        catalogue = Catalogue(provider, schema, RETRY_BUDGET)
        id = None if workflow is None else find_workflow(catalogue, workflow).id
        if group:
            kinds, number = group_errors(catalogue, id, step, since)
        else:
            found = find_errors(catalogue, id, step, since, limit + 1)
    if not group:
        print_json(found[:limit]) if as_json else display_errors(found, limit)
        return
    print_json(kinds[:limit]) if as_json else display_kinds(kinds, limit)
    if number == error_queries.MAX_GROUPED:
        complain(f"only the newest {number:,} errors were grouped")
