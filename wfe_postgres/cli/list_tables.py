"""Tables for the results of `list` and `events`: a line or two per row, or a block per row on a narrow terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import typer
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wfe_postgres import Event, WorkflowPage, WorkflowSummary
from wfe_postgres.cli.screen import NARROW, STYLES, make_console, make_table, mention_more, show
from wfe_postgres.cli.text import at, distance, in_one_line, next_run, plain

UUID_WIDTH = 36

GAP = 2
"""Cells between two columns."""


@dataclass(frozen=True)
class Column:
    """A column of a list. Its width is at least `shortest` and at most `longest`, and what its texts need between."""

    name: str
    shortest: int
    longest: int
    folds: bool = False
    """Longer texts are folded; otherwise they are truncated."""


WORKFLOW = Column("workflow", UUID_WIDTH, UUID_WIDTH, folds=True)
STATUS = Column("status", 10, 10)
DEFINITION = Column("definition", 10, 20)
CREATED = Column("created, UTC", 16, 16)
NEXT = Column("next", 20, 20)
ERROR = Column("last error", 20, 1000)
REFERENCE = Column("reference", 10, 36)
BY_IMPORTANCE = (WORKFLOW, STATUS, DEFINITION, CREATED, NEXT, ERROR, REFERENCE)
IN_ORDER = (WORKFLOW, DEFINITION, STATUS, CREATED, NEXT, REFERENCE, ERROR)

TIME = Column("time, UTC", 19, 19)
PROCESSED = Column("processed", 9, 9)
NAME = Column("name", 20, 1000, folds=True)
KEY = Column("key", 20, 1000, folds=True)
ID = Column("id", UUID_WIDTH, UUID_WIDTH, folds=True)
OF_EVENT = (TIME, PROCESSED, NAME, KEY, ID)

Row = dict[Column, Text]


def display_workflows(page: WorkflowPage, errors: dict[str, str]) -> None:
    """The workflows, each with the last error of those that have one."""
    if not page.items:
        typer.echo("No workflows.")
        return
    console, now = make_console(), datetime.now(UTC)
    rows = [workflow_row(item, errors.get(item.id, ""), now) for item in page.items]
    if console.width < NARROW:
        show(console, *map(workflow_block, rows))
    else:
        show(console, *lines_of(console, rows))
    if page.next_cursor:
        typer.echo(f"More with --cursor {page.next_cursor}", err=not console.is_terminal)


def workflow_row(item: WorkflowSummary, error: str, now: datetime) -> Row:
    """The cells of one workflow."""
    return {
        WORKFLOW: Text(plain(item.name)),
        DEFINITION: Text(f"{plain(item.workflow_definition_id)} v{item.version}"),
        STATUS: Text(item.status, STYLES[item.status]),
        CREATED: Text(at(item.create_time)[:16]),
        NEXT: Text(next_run(item.status, item.next_execution, now)),
        REFERENCE: Text(plain(item.reference or "")),
        ERROR: Text(in_one_line(error), "red"),
    }


def workflow_block(row: Row) -> RenderableType:
    """The name of a workflow, and the rest below it."""
    state = Text("  ").join(row[it] for it in (STATUS, NEXT, DEFINITION, CREATED, REFERENCE) if row[it])
    error = [Text.assemble(row[ERROR], no_wrap=True, overflow="ellipsis")] if row[ERROR] else []
    return Group(Text.assemble(row[WORKFLOW], style="bold"), Padding(Group(state, *error), (0, 0, 0, 2)))


def lines_of(console: Console, rows: Sequence[Row]) -> Iterator[RenderableType]:
    """A table of the columns for which there is room.

    If there is none for the errors or the next runs: what a row has in other columns is in a line below it.
    """
    widths = widths_of(needed_by(rows, BY_IMPORTANCE), console.width)
    below = [it for it in IN_ORDER if it not in widths]
    if not any(row[it] for row in rows for it in below if it != REFERENCE):
        yield table_of(console, rows, IN_ORDER, widths)
        return
    yield table_of(console, [], IN_ORDER, widths)
    for row in rows:
        row[WORKFLOW].stylize("bold")
        table = table_of(console, [row], IN_ORDER, widths)
        table.show_header = False
        yield table
        if cells := [row[it] for it in below if row[it]]:
            for it in below:
                row[it].truncate(it.longest, overflow="ellipsis")
            yield Padding(Text.assemble(Text("  ").join(cells), no_wrap=True, overflow="ellipsis"), (0, 0, 0, 2))


def needed_by(rows: Sequence[Row], columns: Sequence[Column]) -> dict[Column, int]:
    """The cells that the longest text of each column takes."""
    return {column: max(cell_len(row[column].plain) for row in rows) for column in columns}


def table_of(console: Console, rows: Sequence[Row], in_order: Sequence[Column], widths: dict[Column, int]) -> Table:
    """The columns that have a width; ids, names and times are never truncated."""
    table = make_table(console)
    columns = [it for it in in_order if it in widths]
    for it in columns:
        width = widths[it] if console.is_terminal else None
        overflow: Literal["fold", "ellipsis"] = "fold" if it.folds else "ellipsis"
        table.add_column(it.name, overflow=overflow, no_wrap=not it.folds, min_width=width, max_width=width)
    for row in rows:
        table.add_row(*(row[it] for it in columns))
    return table


def widths_of(needed: dict[Column, int], room: int) -> dict[Column, int]:
    """The widths of the columns that are shown: those that are not empty, the first ones first."""
    widths: dict[Column, int] = {}
    for column in needed:
        width = max(len(column.name), min(needed[column], column.shortest))
        if needed[column] and width <= room:
            widths[column] = width
            room -= width + GAP
    room += GAP  # none after the last one
    for column, width in widths.items():
        grown = max(width, min(needed[column], column.longest, width + room))
        room -= grown - width
        widths[column] = grown
    return widths


def display_events(found: list[Event], *, there_are_more: bool) -> None:
    """One line per event, with the id if there is room."""
    if not found:
        typer.echo("No events.")
        return
    console, now = make_console(), datetime.now(UTC)
    rows = [event_row(event) for event in found]
    if console.width < NARROW:
        show(console, *(event_block(row, distance(it.event_time, now)) for row, it in zip(rows, found, strict=True)))
    else:
        widths = widths_of(needed_by(rows, OF_EVENT), console.width)
        show(console, table_of(console, rows, OF_EVENT, widths))
    mention_more(console, there_are_more)


def event_row(event: Event) -> Row:
    """The cells of one event."""
    return {
        TIME: Text(at(event.event_time)),
        PROCESSED: Text("yes", "green") if event.is_processed else Text("no", "yellow"),
        NAME: Text(plain(event.event_name)),
        KEY: Text(plain(event.event_key)),
        ID: Text(plain(event.id)),
    }


def event_block(row: Row, ago: str) -> RenderableType:
    """The time of an event, and its name and key below it."""
    head = Text.assemble(Text.assemble(row[TIME], style="bold"), f"  {ago}, processed: ", row[PROCESSED])
    return Group(head, Padding(Text.assemble(row[NAME], " / ", row[KEY]), (0, 0, 0, 2)))
