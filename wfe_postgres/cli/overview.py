"""`status`: how the store stands, at a glance."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich import filesize
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wfe_postgres import PostgresPersistenceProvider, StoreStatistics
from wfe_postgres.cli.catalogue import Catalogue, TableSize
from wfe_postgres.cli.options import Json, Schema, Url
from wfe_postgres.cli.provider import RETRY_BUDGET, provider_on, reported_errors
from wfe_postgres.cli.screen import STYLES, make_console, make_table, print_json, show
from wfe_postgres.cli.text import EPOCH, at, span
from wfe_postgres.orm import SCHEMA

TOLERATED_OFFSET = 2.0
"""In seconds: how far this machine's clock may be from the server's before it is worth a word."""

MANY_DEAD = 1000
"""Dead rows that are worth a colour, if they are more than a fifth of the live ones too."""


@dataclass(frozen=True)
class Overview:
    """How the store stands, and how large it is."""

    time: datetime
    schema: str
    statistics: StoreStatistics
    tables: list[TableSize]


def status(
    url: Url = None,
    schema: Schema = SCHEMA,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="How often, with --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the backlog, workflows by status, and table sizes.

    What is due and unprocessed, and since when; tokens that are held and that have expired; the tables with their
    dead rows. It counts rows: on a store of millions it takes its time. With --watch --json it prints a line of JSON
    each time.

    \b
    Example:
      wfe-postgres status --watch
    \b
    Exit codes:
      0    that is how it stands
      2    the store is missing, older or newer than this library
      3    the database cannot be reached, or refuses
      130  the watch was stopped by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        catalogue = Catalogue(provider, schema, RETRY_BUDGET)

        def look() -> Overview:
            return overview(provider, catalogue, schema)

        if as_json:
            repeat(lambda: print_json(look(), indent=None if watch else 2), every, watch)
        else:
            display(look, every, watch)


def overview(provider: PostgresPersistenceProvider, catalogue: Catalogue, schema: str) -> Overview:
    """The store at this moment."""
    statistics = provider.get_statistics()
    return Overview(datetime.now(UTC), schema, statistics, catalogue.table_sizes())


def display(look: Callable[[], Overview], every: float, watch: bool) -> None:
    """For people: once, or over and over in the same place; in a pipe one below the other."""
    console = make_console()
    if watch and console.is_terminal:
        first = screen(look(), console)
        with Live(first, console=console, screen=True, auto_refresh=False) as live:
            repeat(lambda: live.update(screen(look(), console), refresh=True), every, watch)
    else:
        repeat(lambda: show(console, screen(look(), console)), every, watch)


def repeat(act: Callable[[], None], every: float, watch: bool) -> None:
    """Once, or until Ctrl-C."""
    act()
    while watch:
        time.sleep(every)
        act()


def screen(overview: Overview, console: Console) -> RenderableType:
    """All of it, one below the other, in 80 columns and 24 lines."""
    statistics = overview.statistics
    title = Text.assemble(
        (f"Store in schema {overview.schema}", "bold"),
        f", revision {statistics.schema_revision}",
        (f"   {at(overview.time)} UTC", "dim"),
    )
    beside = Table.grid(padding=(0, 4, 0, 0))
    beside.add_row(workflows(statistics, console), backlog(statistics, overview.time, console))
    parts: list[RenderableType] = [title, "", beside, "", tables(overview.tables, console)]
    if abs(statistics.clock_offset) > TOLERATED_OFFSET:
        parts[1:1] = [clock(statistics.clock_offset)]
    return Group(*parts)


def clock(offset: float) -> Text:
    """That this machine's clock is off."""
    return Text(
        f"This machine's clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the server's.", "yellow"
    )


def workflows(statistics: StoreStatistics, console: Console) -> Table:
    """How many there are of each status."""
    table = make_table(console, "workflows")
    table.add_column("", justify="right")
    for status, number in statistics.workflows.items():
        table.add_row(Text(status, STYLES[status] if number else "dim"), number_of(number))
    table.add_row("all", number_of(sum(statistics.workflows.values())))
    return table


def backlog(statistics: StoreStatistics, now: datetime, console: Console) -> Table:
    """What waits for a host, and since when."""
    table = make_table(console, "backlog")
    table.add_column("", justify="right")
    table.add_column("oldest", justify="right")
    for name, number, oldest, style in (
        ("workflows due", statistics.runnable_due, statistics.oldest_due, ""),
        ("events unprocessed", statistics.unprocessed_events, statistics.oldest_unprocessed_event, ""),
        ("commands due", statistics.due_commands, statistics.oldest_due_command, ""),
        ("subscriptions open", statistics.open_subscriptions, None, ""),
        ("tokens held", statistics.held_subscriptions, None, ""),
        ("tokens expired", statistics.expired_subscriptions, None, "yellow"),
        ("errors of steps", statistics.execution_errors, None, "red"),
    ):
        table.add_row(name, number_of(number, style), age(oldest, now))
    return table


def age(oldest: datetime | None, now: datetime) -> str:
    """How long something has waited; what is due at once has no time of its own."""
    if oldest is None or oldest >= now:
        return ""
    return span(now - oldest) if oldest > EPOCH else "at once"


def tables(sizes: list[TableSize], console: Console) -> Table:
    """How large the tables are, and when they were last cleaned of dead rows."""
    table = make_table(console, "table")
    for name in ("rows, about", "dead", "size", "indexes", "last vacuum"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in sizes:
        many = size.dead_rows > max(MANY_DEAD, size.rows / 5)
        table.add_row(
            size.table,
            number_of(size.rows),
            number_of(size.dead_rows, "yellow" if many else ""),
            filesize.decimal(size.bytes),
            filesize.decimal(size.index_bytes),
            at(size.last_vacuum)[:16] if size.last_vacuum else "",
        )
    return table


def number_of(number: int, style: str = "") -> Text:
    """A number, that catches the eye if it is not 0."""
    return Text(f"{number:,}", style if number else "dim")
