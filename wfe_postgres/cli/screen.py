"""Output to a terminal or a pipe, and as JSON."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wfe_postgres import PointerStatus, WorkflowStatus

PIPE_WIDTH = 10_000
"""Console width for a file or a pipe, so that nothing is truncated."""

NARROW = 76
"""Terminal width below which a list has a block per row instead of a table."""

PAYLOADS = frozenset(
    {
        "context_item",
        "data",
        "event_data",
        "extension_attributes",
        "outcome",
        "persistence_data",
        "subscription_data",
    }
)
SECRETS = frozenset({"external_token"})

STYLES: dict[str, str] = {
    WorkflowStatus.RUNNABLE: "cyan",
    WorkflowStatus.SUSPENDED: "yellow",
    WorkflowStatus.COMPLETE: "green",
    WorkflowStatus.TERMINATED: "red",
    PointerStatus.PENDING: "cyan",
    PointerStatus.RUNNING: "bold cyan",
    PointerStatus.SKIPPED: "dim",
    PointerStatus.SLEEPING: "blue",
    PointerStatus.WAITING_FOR_EVENT: "magenta",
    PointerStatus.FAILED: "bold red",
    PointerStatus.COMPENSATED: "yellow",
    PointerStatus.CANCELLED: "yellow",
    PointerStatus.PENDING_PREDECESSOR: "dim",
}


def print_sentence(text: str, *, indent: int = 0) -> None:
    """Print a sentence, on a terminal folded between words."""
    show(make_console(), Padding(Text(text), (0, 0, 0, indent)))


@contextmanager
def ignored_closed_pipe() -> Iterator[None]:
    """Lets work go on whose reports nobody reads."""
    try:
        yield
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Write what follows, and what is still buffered, nowhere: the standard output cannot be written to."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_console(*, stderr: bool = False) -> Console:
    """A console on an output, as wide as the terminal; `PIPE_WIDTH` if it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a name outside the terminal's encoding must not fail the command
    console = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def show(console: Console, *renderables: RenderableType) -> None:
    """Print the renderables without the trailing spaces that rich adds to every line."""
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    console.file.write("".join(f"{line.rstrip(' ')}\n" for line in captured.get().removesuffix("\n").split("\n")))
    console.file.flush()


def mention_more(console: Console, there_are: bool) -> None:
    """Say that the limit left something out; in a pipe on standard error."""
    if there_are:
        typer.echo("There are more: see --limit", err=not console.is_terminal)


def show_blocks(console: Console, blocks: Iterable[RenderableType]) -> None:
    """Print the blocks with a blank line between them."""
    parts = [part for block in blocks for part in ("", block)]
    show(console, *parts[1:])


def make_table(console: Console, *columns: str, title: str | None = None) -> Table:
    """A table with left-aligned columns of these names; without borders in a pipe."""
    box = SIMPLE_HEAD if console.is_terminal else None
    return Table(
        *columns,
        title=title,
        title_justify="left",
        title_style="bold",
        box=box,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2 if box is None else 1, 0, 0),
    )


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print the value as JSON, without payload fields and tokens."""
    typer.echo(json.dumps(value, default=_as_json, indent=indent))


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    fields = (field.name for field in dataclasses.fields(value))
    return {name: getattr(value, name) for name in fields if name not in PAYLOADS | SECRETS}
