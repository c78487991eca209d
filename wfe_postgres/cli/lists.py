"""`list` and `events`: list rows of the store."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from wfe_postgres import (
    Event,
    EventNotFoundError,
    PostgresPersistenceProvider,
    WorkflowFilters,
    WorkflowNotFoundError,
    WorkflowPage,
    WorkflowStatus,
    WorkflowSummary,
)
from wfe_postgres.cli.catalogue import Catalogue
from wfe_postgres.cli.error_queries import last_errors
from wfe_postgres.cli.list_tables import display_events, display_workflows
from wfe_postgres.cli.lookups import find_workflow
from wfe_postgres.cli.options import WHEN, Json, Limit, Schema, Url, text_option, time_option
from wfe_postgres.cli.provider import RETRY_BUDGET, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.orm import SCHEMA

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


Status = Annotated[
    list[WorkflowStatus] | None,
    typer.Option(
        "--status",
        case_sensitive=False,
        metavar="STATUS",
        show_default=False,
        help="Only Runnable, Suspended, Complete or Terminated ones; can be repeated.",
    ),
]
Definition = Annotated[str | None, text_option("--definition", "Only workflows of this definition.")]
Version = Annotated[
    int | None,
    typer.Option("--version", metavar="N", show_default=False, help="Only workflows of this definition version."),
]
Reference = Annotated[str | None, text_option("--reference", "Only workflows with this reference.")]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="ID-OR-NAME", show_default=False, help="Only workflows whose root this is."),
]
CreatedFrom = Annotated[datetime | None, time_option("--from", f"Created at or after: {WHEN}.")]
CreatedTo = Annotated[datetime | None, time_option("--to", "Created before.")]
Cursor = Annotated[str | None, text_option("--cursor", "Start after this cursor.")]


def list_workflows(
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Status = None,
    definition: Definition = None,
    version: Version = None,
    reference: Reference = None,
    root: Root = None,
    created_from: CreatedFrom = None,
    created_to: CreatedTo = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List workflows, newest first.

    A workflow is listed if it matches all given filters. On a terminal that has room, the last error of each workflow
    is shown, unless the workflow is Complete. The output ends with the cursor of the next page, if any.

    \b
    Example:
      wfe-postgres list --status suspended --from 7d
    \b
    Exit codes:
      0  success, also if nothing was found
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        catalogue = Catalogue(provider, schema, RETRY_BUDGET)
        filters = WorkflowFilters(
            status=status or None,
            definition_id=definition,
            version=version,
            reference=reference,
            root_workflow_id=None if root is None else id_of_root(catalogue, root),
            created_from=created_from,
            created_to=created_to,
        )
        page = full_page(provider, filters, limit, cursor)
        errors = {} if as_json else last_errors_of(page, catalogue)
    print_json(page) if as_json else display_workflows(page, errors)


def id_of_root(catalogue: Catalogue, id_or_name: str) -> str:
    """The id of this workflow, which can have been deleted: then it is the id that was given."""
    try:
        return find_workflow(catalogue, id_or_name).id
    except WorkflowNotFoundError:
        return id_or_name


def full_page(
    provider: PostgresPersistenceProvider, filters: WorkflowFilters, limit: int, cursor: str | None
) -> WorkflowPage:
    """As many workflows as the limit, if there are so many; one page of the provider can have fewer."""
    items: list[WorkflowSummary] = []
    while True:
        page = provider.find_workflows(limit=limit - len(items), cursor=cursor, **filters)
        items += page.items
        cursor = page.next_cursor
        if cursor is None or len(items) == limit:
            return WorkflowPage(items, cursor)


def last_errors_of(page: WorkflowPage, catalogue: Catalogue) -> dict[str, str]:
    """The last errors of the workflows that are not Complete, by workflow id."""
    return last_errors(catalogue, [it.id for it in page.items if it.status != WorkflowStatus.COMPLETE])


def events(
    url: Url = None,
    schema: Schema = SCHEMA,
    name: Annotated[str | None, text_option("--name", "With --key: events with this name, processed or not.")] = None,
    key: Annotated[str | None, text_option("--key", "With --name: events with this key.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List unprocessed events, oldest first.

    With --name and --key: list the newest --limit events that match, processed or not. Payloads are not shown.

    \b
    Example:
      wfe-postgres events --name paid --key 4711
    \b
    Exit codes:
      0  success, also if nothing was found
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    if (name is None) != (key is None):
        raise typer.BadParameter("use both options together", param_hint="--name, --key")
    with reported_errors(url), provider_on(url, schema) as provider:
        if name is None or key is None:
            ids = provider.get_runnable_events(END_OF_TIME, limit + 1)
            some = ids[:limit]
        else:
            ids = provider.get_events(name, key, END_OF_TIME)
            some = ids[-limit:]
        found = list(existing_events(provider, some))
    if as_json:
        print_json(found)
    else:
        display_events(found, there_are_more=len(ids) > limit)


def existing_events(provider: PostgresPersistenceProvider, ids: Iterable[str]) -> Iterator[Event]:
    """The events with these ids, without those purged since the ids were read."""
    for id in ids:
        with suppress(EventNotFoundError):
            yield provider.get_event(id)
