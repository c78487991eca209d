"""`suspend`, `resume` and `terminate`: a person's word to one workflow, saved as any host's would be."""

from collections.abc import Callable
from datetime import UTC, datetime

import typer

from wfe_postgres import ConcurrencyError, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.cli.options import Json, Schema, Url, Workflow
from wfe_postgres.cli.provider import ExitCode, fail, find, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.cli.text import at, plain
from wfe_postgres.orm import SCHEMA

TRIES = 5
"""How often a workflow is loaded and saved anew because others have saved it meanwhile."""

FINISHED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)


def suspend(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Suspend a workflow: no host takes it up until it is resumed.

    A host that is running one of its steps at that moment finds its save refused.

    \b
    Example:
      wfe-postgres suspend order-4711
    \b
    Exit codes:
      0  it is suspended
      1  there is no such workflow, it is finished, or others kept changing it
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """
    set_status(workflow, WorkflowStatus.SUSPENDED, lambda it: None, url, schema, as_json)


def resume(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Resume a suspended workflow: it is due at once.

    \b
    Example:
      wfe-postgres resume order-4711
    \b
    Exit codes:
      0  it is runnable
      1  there is no such workflow, it is finished, or others kept changing it
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """

    def make_due(instance: WorkflowInstance) -> None:
        instance.next_execution = int(datetime.now(UTC).timestamp() * 1000)

    set_status(workflow, WorkflowStatus.RUNNABLE, make_due, url, schema, as_json)


def terminate(workflow: Workflow, url: Url = None, schema: Schema = SCHEMA, as_json: Json = False) -> None:
    """Terminate a workflow, for good.

    Nothing is compensated. A host that is running one of its steps at that moment finds its save refused.

    \b
    Example:
      wfe-postgres terminate order-4711
    \b
    Exit codes:
      0  it is terminated
      1  there is no such workflow, it is finished, or others kept changing it
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
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
    """Give the workflow this status and say so; nothing is written when it has it already."""
    with reported_errors(url), provider_on(url, schema) as provider:
        before, instance = save(provider, workflow, status, prepare)
    if as_json:
        print_json({"id": instance.id, "name": instance.name, "before": before, "status": instance.status})
    elif before == status:
        typer.echo(f"The workflow {plain(instance.name)} is {status} already.")
    else:
        typer.echo(f"The workflow {plain(instance.name)} is {status}; it was {before}.")


def save(
    provider: PostgresPersistenceProvider,
    workflow: str,
    status: WorkflowStatus,
    prepare: Callable[[WorkflowInstance], None],
) -> tuple[WorkflowStatus, WorkflowInstance]:
    """The status that it had, and the workflow as it is now; loaded and decided anew when others save it meanwhile."""
    for _ in range(TRIES):
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
    return fail(f"others kept changing workflow {workflow!r}: {TRIES} tries were refused", ExitCode.NO)


def refusal(instance: WorkflowInstance) -> str:
    """Why nothing can be done about a finished workflow."""
    since = f" since {at(instance.complete_time)} UTC" if instance.complete_time else ""
    return f"workflow {instance.name!r} is finished: it has been {instance.status}{since}"
