"""`status`: statistics of the store and the sizes of its tables."""

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
from wfe_postgres.cli.activity import Activity, activity_of
from wfe_postgres.cli.catalogue import Catalogue, TableSize
from wfe_postgres.cli.options import Json, Schema, Url
from wfe_postgres.cli.provider import RETRY_BUDGET, provider_on, reported_errors
from wfe_postgres.cli.screen import NARROW, STYLES, make_console, make_table, print_json, show
from wfe_postgres.cli.services import Depth, Locks, locks_of, queues_of
from wfe_postgres.cli.text import EPOCH, at, plain, span
from wfe_postgres.orm import SCHEMA

MAX_CLOCK_OFFSET = 2.0
"""Seconds by which the local clock may differ from the server's before a warning is shown."""

MANY_DEAD_ROWS = 1000
"""Number of dead rows above which they are highlighted, if they also exceed a fifth of the live rows."""


@dataclass(frozen=True)
class Overview:
    """The statistics of the store, the work of its hosts, and the sizes of its tables."""

    time: datetime
    schema: str
    statistics: StoreStatistics
    hosts: Activity
    locks: Locks | None
    queues: list[Depth] | None
    tables: list[TableSize]


def status(
    url: Url = None,
    schema: Schema = SCHEMA,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Interval for --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the backlog and the table sizes.

    Shows workflows by status, due workflows and commands, unprocessed events and their age, held and expired tokens,
    and the tables with their dead rows. Also shows how many workflows have a step that a host is running, with the time
    until the first of their leases ends, the locks that hosts hold, what is queued, and the definitions whose workflows
    have been due for over a minute: perhaps no host knows them. The command counts rows, which is slow on a store with
    millions of them. With --watch --json it prints one line of JSON per refresh.

    \b
    Example:
      wfe-postgres status --watch
    \b
    Exit codes:
      0    success
      2    the store is missing, or at another schema revision
      3    the database is unreachable, or refused the call
      130  --watch was interrupted by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        show_status(provider, watch, every, as_json)


def show_status(provider: PostgresPersistenceProvider, watch: bool, every: float, as_json: bool) -> None:
    """Print the statistics once or, with `watch`, every so many seconds."""
    catalogue = Catalogue(provider, provider.schema, RETRY_BUDGET)

    def take() -> Overview:
        return overview(provider, catalogue, provider.schema)

    if as_json:
        repeat(lambda: print_json(take(), indent=None if watch else 2), every, watch)
    else:
        display(take, every, watch)


def overview(provider: PostgresPersistenceProvider, catalogue: Catalogue, schema: str) -> Overview:
    """Read the statistics and table sizes."""
    statistics, hosts = provider.get_statistics(), activity_of(catalogue)
    services = locks_of(catalogue), queues_of(catalogue)
    return Overview(datetime.now(UTC), schema, statistics, hosts, *services, catalogue.table_sizes())


def display(take: Callable[[], Overview], every: float, watch: bool) -> None:
    """Print the overview once or repeatedly: in place on a terminal, one after the other in a pipe."""
    console = make_console()
    if watch and console.is_terminal:
        first = screen(take(), console)
        with Live(first, console=console, screen=True, auto_refresh=False) as live:
            repeat(lambda: live.update(screen(take(), console), refresh=True), every, watch)
    else:
        repeat(lambda: show(console, screen(take(), console)), every, watch)


def repeat(act: Callable[[], None], every: float, watch: bool) -> None:
    """Call `act` once, or every `every` seconds until Ctrl-C."""
    act()
    while watch:
        time.sleep(every)
        act()


def screen(overview: Overview, console: Console) -> RenderableType:
    """The whole overview; fits in 80 columns and 24 lines."""
    statistics = overview.statistics
    title = Text.assemble(
        (f"Store in schema {overview.schema}", "bold"),
        f", revision {statistics.schema_revision}",
        (f"   {at(overview.time)} UTC", "dim"),
    )
    beside = Table.grid(padding=(0, 4, 0, 0))
    both = workflows(statistics, console), backlog(overview, console)
    beside.add_row(*both)
    fits = console.measure(beside).maximum <= console.width
    parts: list[RenderableType] = [title, "", *([beside] if fits else both), "", tables(overview.tables, console)]
    if overview.hosts.overdue:
        parts[2:2] = [overdue(overview, console), ""]
    if abs(statistics.clock_offset) > MAX_CLOCK_OFFSET:
        parts[1:1] = [clock(statistics.clock_offset)]
    return Group(*parts)


def clock(offset: float) -> Text:
    """A warning that the local clock differs from the server's."""
    return Text(
        f"The local clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the server's.", "yellow"
    )


def workflows(statistics: StoreStatistics, console: Console) -> Table:
    """The number of workflows by status."""
    table = make_table(console, "workflows")
    table.add_column("", justify="right")
    for status, number in statistics.workflows.items():
        table.add_row(Text(status, STYLES[status] if number else "dim"), number_of(number))
    table.add_row("all", number_of(sum(statistics.workflows.values())))
    return table


def overdue(overview: Overview, console: Console) -> Table:
    """The definitions that no host seems to run."""
    table = make_table(console, "due for over a minute")
    names = table.columns[0]
    names.no_wrap, names.overflow, names.max_width = True, "ellipsis", console.width - 24
    for name in ("workflows", "oldest"):
        table.add_column(name, justify="right", no_wrap=True)
    for it in overview.hosts.overdue:
        definition = Text(plain(f"{it.definition_id} v{it.version}"), "yellow")
        table.add_row(definition, number_of(it.workflows), age(it.oldest, overview.time))
    return table


def backlog(overview: Overview, console: Console) -> Table:
    """The work that waits for a host, and its age; and the work of hosts."""
    statistics, now = overview.statistics, overview.time
    table = make_table(console, "backlog")
    table.add_column("", justify="right")
    table.add_column("oldest", justify="right")
    for name, number, oldest, style in (
        ("due workflows", statistics.runnable_due, statistics.oldest_due, ""),
        ("unprocessed events", statistics.unprocessed_events, statistics.oldest_unprocessed_event, ""),
        ("due commands", statistics.due_commands, statistics.oldest_due_command, ""),
        ("open subscriptions", statistics.open_subscriptions, None, ""),
        ("held tokens", statistics.held_subscriptions, None, ""),
        ("expired tokens", statistics.expired_subscriptions, None, "yellow"),
        ("step errors", statistics.execution_errors, None, "red"),
    ):
        table.add_row(name, number_of(number, style), age(oldest, now))
    end = overview.hosts.first_lease_end
    table.add_row("running steps", number_of(overview.hosts.claimed), f"lease {span(end - now)}" if end else "")
    if overview.locks:
        table.add_row("held locks", number_of(overview.locks.held), age(overview.locks.oldest, now))
    for depth in overview.queues or ():
        table.add_row(f"queued: {plain(depth.queue)}", number_of(depth.ids), age(depth.oldest, now))
    return table


def age(oldest: datetime | None, now: datetime) -> str:
    """The age of the oldest item; workflows that are due immediately have a time at the epoch and no age."""
    if oldest is None or oldest >= now:
        return ""
    return span(now - oldest) if oldest > EPOCH else "now"


def tables(sizes: list[TableSize], console: Console) -> Table:
    """The sizes of the tables; on a wider terminal also of their indexes, and the times of their last vacuum."""
    table = make_table(console, "table")
    table.columns[0].no_wrap = True
    shown = 5 if console.width >= NARROW else 3
    for name in ("rows (est.)", "dead", "size", "indexes", "last vacuum")[:shown]:
        table.add_column(name, justify="right", no_wrap=True)
    for size in sizes:
        many = size.dead_rows > max(MANY_DEAD_ROWS, size.rows / 5)
        cells = (
            number_of(size.rows),
            number_of(size.dead_rows, "yellow" if many else ""),
            filesize.decimal(size.bytes),
            filesize.decimal(size.index_bytes),
            at(size.last_vacuum)[:16] if size.last_vacuum else "",
        )
        table.add_row(size.table, *cells[:shown])
    return table


def number_of(number: int, style: str = "") -> Text:
    """The number with thousands separators, styled unless it is 0."""
    return Text(f"{number:,}", style if number else "dim")
