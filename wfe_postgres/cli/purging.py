"""The purges: delete finished workflows, processed events, errors of steps and orphans."""

from collections import Counter
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from wfe_postgres import WorkflowStatus
from wfe_postgres.cli.catalogue import ORPHANS, PROCESSED_EVENTS, STEP_ERRORS, Catalogue, finished_workflows
from wfe_postgres.cli.options import WHEN, Json, Schema, Url, parse_timestamp
from wfe_postgres.cli.provider import RETRY_BUDGET, provider_on, reported_errors
from wfe_postgres.cli.purge_runs import Task, run, sentence
from wfe_postgres.cli.screen import print_json, print_sentence
from wfe_postgres.cli.text import counted
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


THINGS = {"event_subscriptions": "subscription", "execution_errors": "error", "scheduled_commands": "command"}
"""What the rows of these tables are called in messages."""


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
    """Remove finished workflows.

    Removes workflows that have been Complete or Terminated since before --older-than, with their pointers,
    subscriptions and errors. A workflow with a root, or below which others have one, is kept until all of them have
    ended. Rows are deleted in small transactions with pauses between them, to limit the load on the server. Ctrl-C
    stops after the current hundredth, a second Ctrl-C at once; committed batches stay removed.

    \b
    Example:
      wfe-postgres purge --older-than 30d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or at another schema revision
      3    the database is unreachable, or refused the call
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
    after the current hundredth, a second Ctrl-C at once; committed batches stay removed.

    \b
    Example:
      wfe-postgres purge-events --older-than 30d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or at another schema revision
      3    the database is unreachable, or refused the call
      130  interrupted by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        tasks = [Task("processed", "event", PROCESSED_EVENTS, partial(provider.purge_events, batch_size=batch_size))]
        run(tasks, Catalogue(provider, schema, RETRY_BUDGET), older_than, batch_size, dry_run, as_json)


def purge_errors(
    older_than: OlderThan,
    url: Url = None,
    schema: Schema = SCHEMA,
    dry_run: DryRun = False,
    batch_size: BatchSize = 1000,
    as_json: Json = False,
) -> None:
    """Remove the errors of steps.

    Removes errors with an error_time before --older-than, also those of workflows that have not ended. Rows are
    deleted in small transactions with pauses between them, to limit the load on the server. Ctrl-C stops after the
    current hundredth, a second Ctrl-C at once; committed batches stay removed.

    \b
    Example:
      wfe-postgres purge-errors --older-than 90d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or at another schema revision
      3    the database is unreachable, or refused the call
      130  interrupted by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        tasks = [Task("step", "error", STEP_ERRORS, partial(provider.purge_errors, batch_size=batch_size))]
        run(tasks, Catalogue(provider, schema, RETRY_BUDGET), older_than, batch_size, dry_run, as_json)


def purge_orphans(
    older_than: OlderThan,
    url: Url = None,
    schema: Schema = SCHEMA,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove what belongs to no workflow.

    Removes subscriptions and errors of workflows that are not stored, and the engine's scheduled commands whose
    workflow or event is not stored. Choose --older-than so that it is before the beginning of your longest
    transaction. Rows are deleted in small transactions; Ctrl-C keeps those that are committed.

    \b
    Example:
      wfe-postgres purge-orphans --older-than 1d --dry-run
    \b
    Exit codes:
      0    the rows were removed, or counted
      2    the store is missing, or at another schema revision
      3    the database is unreachable, or refused the call
      130  interrupted by Ctrl-C
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        catalogue = Catalogue(provider, schema, RETRY_BUDGET)
        found: Counter[str] = Counter()
        for orphans in ORPHANS:
            found[THINGS[orphans.purge.table.name]] += catalogue.count(orphans, older_than)
        removed = 0 if dry_run else provider.delete_orphans(older_than)
    if as_json:
        facts = {"older_than": older_than, "dry_run": dry_run, "stopped": False}
        kinds = {f"{thing}s": number for thing, number in found.items()}
        print_json(facts | {"found": kinds, "removed": {"orphans": removed}})
    elif dry_run:
        for thing, number in found.items():
            print_sentence(sentence(Task("orphaned", thing, ORPHANS[0], lambda _: 0, number), older_than, dry_run))
    else:
        print_sentence(f"{counted(removed, 'orphaned row')} removed.")
