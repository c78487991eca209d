"""`purge` and `purge-events`: delete finished workflows and processed events in batches, with a progress bar."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wfe_postgres import WorkflowStatus
from wfe_postgres.cli.catalogue import Catalogue, Removable, finished_workflows, processed_events
from wfe_postgres.cli.options import WHEN, Json, Schema, Url, parse_timestamp
from wfe_postgres.cli.provider import RETRY_BUDGET, ExitCode, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.cli.text import at, counted
from wfe_postgres.orm import SCHEMA

OlderThan = Annotated[
    datetime,
    typer.Option(
        "--older-than",
        parser=parse_timestamp,
        metavar="WHEN",
        show_default=False,
        help=f"Only rows that ended before: {WHEN}.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count the rows and change nothing.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Rows per transaction.")]


@dataclass
class Task:
    """Rows of one kind to remove: their name in messages, the query and the provider's method that removes them."""

    kind: str
    thing: str
    rows: Removable
    purge: Callable[[datetime], int]
    found: int = 0
    removed: int = 0


def purge(
    older_than: OlderThan,
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Annotated[
        WorkflowStatus | None,
        typer.Option(
            "--status", metavar="STATUS", case_sensitive=False, show_default=False, help="Complete or Terminated."
        ),
    ] = None,
    dry_run: DryRun = False,
    batch_size: BatchSize = 1000,
    as_json: Json = False,
) -> None:
    """Remove finished workflows and their rows.

    Removes workflows that have been Complete or Terminated since before --older-than, with their pointers,
    subscriptions and errors. Rows are deleted in small transactions with pauses between them, to limit the load on
    the server. Ctrl-C stops after the current transaction; committed batches stay removed.

    \b
    Example:
      wfe-postgres purge --older-than 30d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or its schema revision is not this library's
      3    the database is not reachable, or refused the operation
      130  interrupted by Ctrl-C
    """
    statuses = [WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED]
    if status is not None and status not in statuses:
        raise typer.BadParameter("only Complete and Terminated workflows can be purged", param_hint="--status")
    with reported_errors(url), provider_on(url, schema) as provider:
        tasks = [
            Task(
                str(each),
                "workflow",
                finished_workflows(each),
                partial(provider.purge_workflows, each, batch_size=batch_size),
            )
            for each in ([status] if status else statuses)
        ]
        run(tasks, Catalogue(provider, schema, RETRY_BUDGET), older_than, batch_size, dry_run, as_json)


def purge_events(
    older_than: OlderThan,
    url: Url = None,
    schema: Schema = SCHEMA,
    dry_run: DryRun = False,
    batch_size: BatchSize = 1000,
    as_json: Json = False,
) -> None:
    """Remove processed events.

    Removes processed events with an event_time before --older-than. A host that subscribes later does not find them.
    Rows are deleted in small transactions with pauses between them, to limit the load on the server. Ctrl-C stops
    after the current transaction; committed batches stay removed.

    \b
    Example:
      wfe-postgres purge-events --older-than 30d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or its schema revision is not this library's
      3    the database is not reachable, or refused the operation
      130  interrupted by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        tasks = [Task("processed", "event", processed_events(), partial(provider.purge_events, batch_size=batch_size))]
        run(tasks, Catalogue(provider, schema, RETRY_BUDGET), older_than, batch_size, dry_run, as_json)


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
            for until in catalogue.steps(task.rows, older_than, batch_size):
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
        typer.echo(sentence(task, older_than, dry_run))
    if stopped:
        typer.echo("Interrupted by Ctrl-C. Committed batches stay removed.")


def sentence(task: Task, older_than: datetime, dry_run: bool) -> str:
    """The result of a task as a sentence."""
    found = counted(task.found, f"{task.kind} {task.thing}")
    if dry_run:
        return f"{found} from before {at(older_than)} UTC would be removed."
    if task.removed < task.found:
        return f"{task.removed:,} of {found} removed."
    return f"{counted(task.removed, f'{task.kind} {task.thing}')} removed."
