"""The output of the demo: one line per event, and the row counts at the end."""

import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = ("cyan", "magenta", "yellow")
DEMO = "demo"
INTERVAL = 0.2
"""The minimum number of seconds between two events, so that a person can follow."""


class Show:
    """Prints to a rich console, which omits colours without a terminal or with NO_COLOR."""

    def __init__(self, console: Console, workers: Sequence[str]) -> None:
        self._console = console
        self._started = self._last = time.monotonic()
        self._styles = dict(zip(workers, COLOURS, strict=True)) | {DEMO: "bold"}

    def event(self, who: str, order: str, step: str, what: str, style: str = "") -> None:
        """Print one event: elapsed time, actor, order, step and description."""
        time.sleep(max(0.0, self._last + INTERVAL - time.monotonic()))
        self._last = time.monotonic()
        elapsed = f"{self._last - self._started:6.2f}  "
        line = Text.assemble(
            (elapsed, "dim"), (f"{who:8}  ", self._styles[who]), f"{order:7}  ", f"{step:17}  ", (what, style)
        )
        self._console.print(line, soft_wrap=True)

    def heading(self, title: str, sentences: Sequence[str]) -> None:
        """Print the title and the text of a part."""
        self.say("")
        self.say(title, "bold")
        for sentence in sentences:
            self.say(sentence)

    def say(self, line: str, style: str = "") -> None:
        """Print one line."""
        self._console.print(Text(line, style), soft_wrap=True)

    def tables(self, schema: str, rows: Sequence[tuple[str, int, str]]) -> None:
        """Print the table names with their row counts, in total and by kind."""
        self.say("")
        title = f"Tables of schema {schema}"
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("table", no_wrap=True)
        table.add_column("rows", justify="right")
        table.add_column("rows by kind")
        for name, count, kinds in rows:
            table.add_row(name, str(count), Text(kinds))
        self._console.print(table)
