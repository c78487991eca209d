"""`list`, `errors` and `events`: what stands in the store, a line or two each."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wfe_postgres import (
    Event,
    EventNotFoundError,
    ExecutionError,
    PostgresPersistenceProvider,
    WorkflowPage,
    WorkflowStatus,
    WorkflowSummary,
)
from wfe_postgres.cli.options import WHEN, Json, Limit, Schema, Url, moment
from wfe_postgres.cli.provider import find, provider_on, reported_errors
from wfe_postgres.cli.screen import STYLES, WIDE, make_console, make_table, print_json, show
from wfe_postgres.cli.text import at, distance, in_one_line, next_run, plain
from wfe_postgres.orm import SCHEMA

UUID_WIDTH = 36
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


def text_option(name: str, help: str) -> Any:
    """An option that takes a text."""
    return typer.Option(name, metavar="TEXT", show_default=False, help=help)


def time_option(name: str, help: str) -> Any:
    """An option that takes a time."""
    return typer.Option(name, parser=moment, metavar="WHEN", show_default=False, help=help)


def list_workflows(
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Annotated[
        WorkflowStatus | None,
        typer.Option("--status", case_sensitive=False, show_default=False, help="Only those of this status."),
    ] = None,
    definition: Annotated[str | None, text_option("--definition", "Only those of this definition.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", show_default=False, help="Only those of this version.")
    ] = None,
    reference: Annotated[str | None, text_option("--reference", "Only those with this reference.")] = None,
    root: Annotated[str | None, text_option("--root", "Only those below this root workflow (its id).")] = None,
    created_from: Annotated[datetime | None, time_option("--from", f"Created then or later: {WHEN}.")] = None,
    created_to: Annotated[datetime | None, time_option("--to", "Created earlier than that.")] = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, text_option("--cursor", "The page after this place.")] = None,
    as_json: Json = False,
) -> None:
    """List workflows, newest first.

    All filters given must fit. A page ends with the cursor that asks for the next one.

    \b
    Example:
      wfe-postgres list --status suspended --from 7d
    \b
    Exit codes:
      0  these are they, if any
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        page = provider.find_workflows(
            status=status,
            definition_id=definition,
            version=version,
            reference=reference,
            root_workflow_id=root,
            created_from=created_from,
            created_to=created_to,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        print_json(page)
    else:
        display_workflows(page)


def errors(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[ID-OR-NAME]", show_default=False, help="Only those of this workflow.")
    ] = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    since: Annotated[datetime | None, time_option("--since", f"Only since then: {WHEN}.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List errors of steps, newest first.

    The messages are those of the steps' exceptions, as the hosts stored them.

    \b
    Example:
      wfe-postgres errors --since 1h
    \b
    Exit codes:
      0  these are they, if any
      1  there is no such workflow
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        id = None if workflow is None else find(provider, workflow).id
        found = provider.get_execution_errors(id, since=since, limit=limit)
    if as_json:
        print_json(found)
    else:
        display_errors(found)


def events(
    url: Url = None,
    schema: Schema = SCHEMA,
    name: Annotated[str | None, text_option("--name", "With --key: those of this name, processed or not.")] = None,
    key: Annotated[str | None, text_option("--key", "With --name: those of this key.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List events that are not processed, oldest first.

    With --name and --key all that match, the newest --limit of them. What they carry is not shown.

    \b
    Example:
      wfe-postgres events --name paid --key 4711
    \b
    Exit codes:
      0  these are they, if any
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """
    if (name is None) != (key is None):
        raise typer.BadParameter("they go together", param_hint="--name, --key")
    with reported_errors(url), provider_on(url, schema) as provider:
        if name is None or key is None:
            ids = provider.get_runnable_events(END_OF_TIME, limit)
        else:
            ids = provider.get_events(name, key, END_OF_TIME)[-limit:]
        found = list(those_there(provider, ids))
    if as_json:
        print_json(found)
    else:
        display_events(found)


def those_there(provider: PostgresPersistenceProvider, ids: Iterable[str]) -> Iterator[Event]:
    """The events of these ids, without those that have been purged meanwhile."""
    for id in ids:
        with suppress(EventNotFoundError):
            yield provider.get_event(id)


def display_workflows(page: WorkflowPage) -> None:
    """A line each; on a narrow terminal without the next execution and the reference."""
    if not page.items:
        typer.echo("No workflow.")
        return
    console, now = make_console(), datetime.now(UTC)
    table = workflow_table(console, max(len(plain(item.name)) for item in page.items))
    for item in page.items:
        table.add_row(*workflow_row(item, now)[: len(table.columns)])
    show(console, table)
    if page.next_cursor:
        typer.echo(f"More with --cursor {page.next_cursor}", err=not console.is_terminal)


def workflow_table(console: Console, longest_name: int) -> Table:
    """The columns, in widths with which neither an id nor a time is ever cut."""
    table = make_table(console)
    name_width = min(UUID_WIDTH, longest_name) if console.is_terminal else None
    room = max(8, console.width - (name_width or 0) - 32)  # beside the name, the status and the time
    is_wide = console.width >= WIDE
    room = (room - 20) // 2 if is_wide else room
    table.add_column("workflow", overflow="fold", min_width=name_width, max_width=name_width)
    table.add_column("definition", no_wrap=True, overflow="ellipsis", max_width=room)
    table.add_column("status", no_wrap=True)
    table.add_column("created, UTC", no_wrap=True)
    if is_wide:
        table.add_column("next", no_wrap=True)
        table.add_column("reference", no_wrap=True, overflow="ellipsis", max_width=room)
    return table


def workflow_row(item: WorkflowSummary, now: datetime) -> tuple[RenderableType, ...]:
    """The cells of a workflow's line."""
    return (
        plain(item.name),
        f"{plain(item.workflow_definition_id)} v{item.version}",
        Text(item.status, STYLES[item.status]),
        at(item.create_time)[:16],
        next_run(item.status, item.next_execution, now),
        plain(item.reference or ""),
    )


def display_errors(found: list[ExecutionError]) -> None:
    """On a terminal a block each, with the message as it is; in a pipe a line each."""
    if not found:
        typer.echo("No error.")
        return
    console = make_console()
    if console.is_terminal:
        blocks = [part for error in found for part in ("", error_block(error))]
        show(console, *blocks[1:])
    else:
        show(console, error_lines(found, console))


def error_block(error: ExecutionError) -> RenderableType:
    """When and where, and below it the message."""
    head = Text.assemble((at(error.error_time), "bold"), f"  workflow {plain(error.workflow_id)}")
    pointer = Text(f"pointer {plain(error.execution_pointer_id)}", "dim")
    message = Text("\n".join(map(plain, error.message.splitlines())), "red")
    return Group(head, Padding(Group(pointer, message), (0, 0, 0, 2)))


def error_lines(found: list[ExecutionError], console: Console) -> Table:
    """A line each."""
    table = make_table(console, "time, UTC", "workflow", "pointer", "message")
    for error in found:
        ids = plain(error.workflow_id), plain(error.execution_pointer_id)
        table.add_row(at(error.error_time), *ids, in_one_line(error.message))
    return table


def display_events(found: list[Event]) -> None:
    """A line each; on a narrow terminal without the id."""
    if not found:
        typer.echo("No event.")
        return
    console, now = make_console(), datetime.now(UTC)
    columns = 6 if console.width >= WIDE else 5
    table = make_table(console)
    for name in ("time, UTC", "name", "key", "", "processed", "id")[:columns]:
        table.add_column(name, overflow="fold")
    for event in found:
        table.add_row(*event_row(event, now)[:columns])
    show(console, table)


def event_row(event: Event, now: datetime) -> tuple[RenderableType, ...]:
    """The cells of an event's line."""
    processed = Text("yes", "green") if event.is_processed else Text("no", "yellow")
    texts = plain(event.event_name), plain(event.event_key)
    return at(event.event_time), *texts, distance(event.event_time, now), processed, plain(event.id)
