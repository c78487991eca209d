"""What the demo looks like: a line for everything that happens, and in the end the tables."""

import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = ("cyan", "magenta", "yellow")
DEMO = "demo"


class Show:
    """Writes to a console. Without a terminal, or with NO_COLOR, rich leaves the colours out."""

    def __init__(self, console: Console, workers: Sequence[str]) -> None:
        self._console = console
        self._began = time.monotonic()
        self._styles = dict(zip(workers, COLOURS, strict=True)) | {DEMO: "bold"}

    def event(self, who: str, order: str, step: str, what: str, style: str = "") -> None:
        """One line: when, who, of which order, at which step, what."""
        passed = f"{time.monotonic() - self._began:6.2f}  "
        line = Text.assemble(
            (passed, "dim"), (f"{who:8}  ", self._styles[who]), f"{order:7}  ", f"{step:17}  ", (what, style)
        )
        self._console.print(line, soft_wrap=True)

    def say(self, sentence: str, style: str = "") -> None:
        """A line of its own."""
        self._console.print(Text(sentence, style), soft_wrap=True)

    def tables(self, schema: str, rows: Sequence[tuple[str, int, str]]) -> None:
        """What stands in the tables: name, how many rows, and of which kind."""
        self.say("")
        title = f"What stands in the tables of schema {schema}"
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("table", no_wrap=True)
        table.add_column("rows", justify="right")
        table.add_column("of these")
        for name, count, kinds in rows:
            table.add_row(name, str(count), Text(kinds))
        self._console.print(table)
