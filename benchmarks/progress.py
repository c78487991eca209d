"""Progress bars: one for the sections, one for the current race."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """See `harness.Progress`."""

    def __init__(self, bars: Progress, sections: int) -> None:
        self._bars = bars
        self._sections: TaskID = bars.add_task("", total=sections)
        self._race: TaskID = bars.add_task("", total=1.0)
        self._started = 0

    def section(self, name: str) -> None:
        """See `harness.Progress`."""
        self._bars.update(self._sections, description=name, completed=self._started)
        self._started += 1

    def race(self, title: str) -> None:
        """See `harness.Progress`."""
        self._bars.update(self._race, description=title, completed=0.0)

    def advance(self, fraction: float) -> None:
        """See `harness.Progress`."""
        self._bars.update(self._race, completed=fraction)


class Silent:
    """See `harness.Progress`. Shows nothing."""

    def section(self, name: str) -> None:
        """See `harness.Progress`."""

    def race(self, title: str) -> None:
        """See `harness.Progress`."""

    def advance(self, fraction: float) -> None:
        """See `harness.Progress`."""


@contextmanager
def bars(console: Console, sections: int) -> Iterator[Bars]:
    """Transient progress bars. The refresh rate is low, so that the measurements are not affected."""
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as shown:
        yield Bars(shown, sections)
