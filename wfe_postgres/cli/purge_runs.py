"""Runs a purge in steps: counts the rows, shows a progress bar, can be interrupted, and reports the result."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wfe_postgres.cli.catalogue import Catalogue, Removable
from wfe_postgres.cli.provider import ExitCode
from wfe_postgres.cli.screen import print_json, print_sentence
from wfe_postgres.cli.text import at, counted

MAX_STEPS = 100
"""A purge looks at rows that stay, such as those of a family that has not ended, once in each step."""


@dataclass
class Task:
    """Rows of one kind to remove: their name in messages, the query and the provider's method that removes them."""

    kind: str
    thing: str
    rows: Removable
    purge: Callable[[datetime], int]
    found: int = 0
    removed: int = 0


def run(
    tasks: list[Task], catalogue: Catalogue, older_than: datetime, batch_size: int, dry_run: bool, as_json: bool
) -> None:
    """Count the rows, remove them unless it is a dry run, and report the result, also when interrupted."""
    for task in tasks:
        task.found = catalogue.count(task.rows, older_than)
    with interruption() as interrupted:
        try:
            if not dry_run:
                remove(tasks, catalogue, older_than, batch_size, interrupted)
        finally:
            report(tasks, older_than, dry_run, interrupted.is_set(), as_json)
    if interrupted.is_set():
        raise typer.Exit(ExitCode.INTERRUPTED)


def remove(
    tasks: list[Task], catalogue: Catalogue, older_than: datetime, batch_size: int, interrupted: threading.Event
) -> None:
    """Run the tasks until they are done or interrupted."""
    with bars() as progress:
        for task in tasks:
            bar = progress.add_task(f"{task.kind} {task.thing}s", total=task.found)
            for until in catalogue.steps(task.rows, older_than, max(batch_size, task.found // MAX_STEPS)):
                if interrupted.is_set():
                    return
                task.removed += task.purge(until)
                progress.update(bar, completed=task.removed)


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that is set by the first Ctrl-C; a second Ctrl-C raises `KeyboardInterrupt`."""
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def bars() -> Progress:
    """Progress bars on standard error if it is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def report(tasks: list[Task], older_than: datetime, dry_run: bool, stopped: bool, as_json: bool) -> None:
    """Print how many rows were found and removed."""
    if as_json:
        found = {task.kind: task.found for task in tasks}
        removed = {task.kind: task.removed for task in tasks}
        facts = {"older_than": older_than, "dry_run": dry_run, "stopped": stopped}
        print_json(facts | {"found": found, "removed": removed})
        return
    for task in tasks:
        print_sentence(sentence(task, older_than, dry_run))
    if stopped:
        print_sentence("Interrupted by Ctrl-C. Committed batches stay removed.")


def sentence(task: Task, older_than: datetime, dry_run: bool) -> str:
    """The result of a task as a sentence."""
    found = counted(task.found, f"{task.kind} {task.thing}")
    if dry_run:
        return f"{found} from before {at(older_than)} UTC would be removed."
    if task.removed < task.found:
        return f"{task.removed:,} of {found} removed."
    return f"{counted(task.removed, f'{task.kind} {task.thing}')} removed."
