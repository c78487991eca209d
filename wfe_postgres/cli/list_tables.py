"""Tables for the results of `list`, `errors` and `events`."""

from datetime import UTC, datetime

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wfe_postgres import Event, ExecutionError, WorkflowPage, WorkflowSummary
from wfe_postgres.cli.screen import STYLES, WIDE, make_console, make_table, show
from wfe_postgres.cli.text import at, distance, in_one_line, next_run, plain

UUID_WIDTH = 36


def display_workflows(page: WorkflowPage) -> None:
    """One line per workflow; a narrow terminal omits the next execution and the reference."""
    if not page.items:
        typer.echo("No workflows.")
        return
    console, now = make_console(), datetime.now(UTC)
    table = workflow_table(console, max(len(plain(item.name)) for item in page.items))
    for item in page.items:
        table.add_row(*workflow_row(item, now)[: len(table.columns)])
    show(console, table)
    if page.next_cursor:
        typer.echo(f"More with --cursor {page.next_cursor}", err=not console.is_terminal)


def workflow_table(console: Console, longest_name: int) -> Table:
    """The columns, with widths at which ids and times are never truncated."""
    table = make_table(console)
    name_width = min(UUID_WIDTH, longest_name) if console.is_terminal else None
    room = max(8, console.width - (name_width or 0) - 32)  # left by the name, the status and the time
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
    """The cells of one workflow."""
    return (
        plain(item.name),
        f"{plain(item.workflow_definition_id)} v{item.version}",
        Text(item.status, STYLES[item.status]),
        at(item.create_time)[:16],
        next_run(item.status, item.next_execution, now),
        plain(item.reference or ""),
    )


def display_errors(found: list[ExecutionError]) -> None:
    """One block per error with the full message on a terminal; one line per error in a pipe."""
    if not found:
        typer.echo("No errors.")
        return
    console = make_console()
    if console.is_terminal:
        blocks = [part for error in found for part in ("", error_block(error))]
        show(console, *blocks[1:])
    else:
        show(console, error_lines(found, console))


def error_block(error: ExecutionError) -> RenderableType:
    """The time and the ids of an error, and its message below them."""
    head = Text.assemble((at(error.error_time), "bold"), f"  workflow {plain(error.workflow_id)}")
    pointer = Text(f"pointer {plain(error.execution_pointer_id)}", "dim")
    message = Text("\n".join(map(plain, error.message.splitlines())), "red")
    return Group(head, Padding(Group(pointer, message), (0, 0, 0, 2)))


def error_lines(found: list[ExecutionError], console: Console) -> Table:
    """A table with one line per error."""
    table = make_table(console, "time, UTC", "workflow", "pointer", "message")
    for error in found:
        ids = plain(error.workflow_id), plain(error.execution_pointer_id)
        table.add_row(at(error.error_time), *ids, in_one_line(error.message))
    return table


def display_events(found: list[Event]) -> None:
    """One line per event; a narrow terminal omits the id."""
    if not found:
        typer.echo("No events.")
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
    """The cells of one event."""
    processed = Text("yes", "green") if event.is_processed else Text("no", "yellow")
    texts = plain(event.event_name), plain(event.event_key)
    return at(event.event_time), *texts, distance(event.event_time, now), processed, plain(event.id)
