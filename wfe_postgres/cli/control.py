"""`suspend`, `resume` and `terminate`: change the status of one workflow, with optimistic locking as in a host."""

from collections.abc import Callable
from datetime import UTC, datetime

import typer

from wfe_postgres import ConcurrencyError, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli.options import Json, Schema, Url, Workflow
from wfe_postgres.cli.provider import ExitCode, fail, find, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.cli.text import at, plain
from wfe_postgres.orm import SCHEMA

MAX_ATTEMPTS = 5
"""How often a workflow is loaded and saved before the command gives up on concurrent changes."""

FINISHED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)


def suspend(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Suspend a workflow: hosts do not run it until it is resumed.

    If a host is running a step of the workflow at that time, the host's save fails with ConcurrencyError.

    \b
    Example:
      wfe-postgres suspend order-4711
    \b
    Exit codes:
      0  the workflow is suspended
      1  the workflow does not exist, is finished, or changed concurrently
      2  the store is missing, or its schema revision is not this library's
      3  the database is not reachable, or refused the operation
    """
    set_status(workflow, WorkflowStatus.SUSPENDED, lambda it: None, url, schema, as_json)


def resume(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Resume a suspended workflow: it is due immediately.

    \b
    Example:
      wfe-postgres resume order-4711
    \b
    Exit codes:
      0  the workflow is runnable
      1  the workflow does not exist, is finished, or changed concurrently
      2  the store is missing, or its schema revision is not this library's
      3  the database is not reachable, or refused the operation
    """

    def make_due(instance: WorkflowInstance) -> None:
        instance.next_execution = int(datetime.now(UTC).timestamp() * 1000)

    set_status(workflow, WorkflowStatus.RUNNABLE, make_due, url, schema, as_json)


def terminate(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Terminate a workflow. This cannot be undone.

    No compensation steps are run. If a host is running a step of the workflow at that time, the host's save fails
    with ConcurrencyError.

    \b
    Example:
      wfe-postgres terminate order-4711
    \b
    Exit codes:
      0  the workflow is terminated
      1  the workflow does not exist, is finished, or changed concurrently
      2  the store is missing, or its schema revision is not this library's
      3  the database is not reachable, or refused the operation
    """

    def complete(instance: WorkflowInstance) -> None:
        instance.complete_time = datetime.now(UTC)

    set_status(workflow, WorkflowStatus.TERMINATED, complete, url, schema, as_json)


def set_status(
    workflow: str,
    status: WorkflowStatus,
    prepare: Callable[[WorkflowInstance], None],
    url: str | None,
    schema: str,
    as_json: bool,
) -> None:
    """Set the status of the workflow and report it; nothing is written if the workflow already has the status."""
    with reported_errors(url), provider_on(url, schema) as provider:
        before, instance = save(provider, workflow, status, prepare)
    if as_json:
        print_json({"id": instance.id, "name": instance.name, "before": before, "status": instance.status})
    elif before == status:
        typer.echo(f"The workflow {plain(instance.name)} is already {status}.")
    else:
        typer.echo(f"The workflow {plain(instance.name)} is now {status}; it was {before}.")


def save(
    provider: PostgresPersistenceProvider,
    workflow: str,
    status: WorkflowStatus,
    prepare: Callable[[WorkflowInstance], None],
) -> tuple[WorkflowStatus, WorkflowInstance]:
    """Save the status and return the previous one with the instance; reload and retry on `ConcurrencyError`."""
    for _ in range(MAX_ATTEMPTS):
        instance = find(provider, workflow)
        before = instance.status
        if before in FINISHED:
            fail(refusal(instance), ExitCode.NO)
        if before == status:
            return before, instance
        instance.status = status
        prepare(instance)
        try:
            provider.persist_workflow(instance)
        except ConcurrencyError:
            continue
        return before, instance
    return fail(
        f"workflow {workflow!r} was changed concurrently: {MAX_ATTEMPTS} attempts to save it failed", ExitCode.NO
    )


def refusal(instance: WorkflowInstance) -> str:
    """The error message for a finished workflow."""
    since = f" since {at(instance.complete_time)} UTC" if instance.complete_time else ""
    return f"workflow {instance.name!r} is finished: it has been {instance.status}{since}"
