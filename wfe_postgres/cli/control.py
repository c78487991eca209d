"""`suspend`, `resume`, `retry` and `terminate`: change the status of workflows, each atomically."""

from typing import Annotated

import typer

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.cli.changing import Selection, Verb, change
from wfe_postgres.cli.options import Json, Schema, Url
from wfe_postgres.orm import SCHEMA

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID-OR-NAME", show_default=False, help="The workflows' ids or names."),
]
Statuses = Annotated[
    list[WorkflowStatus] | None,
    typer.Option(
        "--status",
        case_sensitive=False,
        metavar="STATUS",
        show_default=False,
        help="All with this status; can be repeated.",
    ),
]
Definition = Annotated[
    str | None, typer.Option("--definition", metavar="TEXT", show_default=False, help="All of this definition.")
]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="ID-OR-NAME", show_default=False, help="This workflow and all whose root it is."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing all that match.")]
SkipFailed = Annotated[bool, typer.Option("--skip-failed", help="Continue after failed steps; do not repeat them.")]


def suspend(
    workflows: Names = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Statuses = None,
    definition: Definition = None,
    root: Root = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Suspend workflows.

    Hosts do not run them until they are resumed. The next save of a host that is running a step of such a workflow
    fails with ConcurrencyError.

    \b
    Example:
      wfe-postgres suspend order-4711
      wfe-postgres suspend --definition order
    \b
    Exit codes:
      0  the workflows are suspended, or none matches
      1  unknown or finished workflow, or the answer was no
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    verb = Verb("suspend", _suspend, WorkflowStatus.SUSPENDED, (WorkflowStatus.RUNNABLE,))
    change(verb, Selection(workflows or [], status or [], definition, root), url, schema, yes, as_json)


def resume(
    workflows: Names = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Statuses = None,
    definition: Definition = None,
    root: Root = None,
    skip_failed: SkipFailed = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Resume suspended workflows.

    They are due immediately. Failed steps are run again, with all their attempts; with --skip-failed the workflows
    continue after them.

    \b
    Example:
      wfe-postgres resume order-4711
      wfe-postgres resume --definition order --skip-failed
    \b
    Exit codes:
      0  the workflows are runnable, or none matches
      1  unknown or finished workflow, or the answer was no
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    verb = Verb(
        "resume",
        lambda provider, workflow_id: provider.resume_workflow(workflow_id, skip_failed=skip_failed),
        WorkflowStatus.RUNNABLE,
        (WorkflowStatus.SUSPENDED,),
    )
    change(verb, Selection(workflows or [], status or [], definition, root), url, schema, yes, as_json)


def retry(
    workflows: Names = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Statuses = None,
    definition: Definition = None,
    root: Root = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Resume, and say what is run again.

    Does what `resume` does, and prints the steps that failed or were running, and how often they were tried.

    \b
    Example:
      wfe-postgres retry order-4711
    \b
    Exit codes:
      0  the workflows are runnable, or none matches
      1  unknown or finished workflow, or the answer was no
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    verb = Verb("retry", _resume, WorkflowStatus.RUNNABLE, (WorkflowStatus.SUSPENDED,), describes_steps=True)
    change(verb, Selection(workflows or [], status or [], definition, root), url, schema, yes, as_json)


def terminate(
    workflows: Names = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    status: Statuses = None,
    definition: Definition = None,
    root: Root = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Terminate workflows. This cannot be undone.

    No compensation steps are run. What the workflows wait for is removed. The next save of a host that is running a
    step of such a workflow fails with ConcurrencyError.

    \b
    Example:
      wfe-postgres terminate order-4711
      wfe-postgres terminate --root order-4711
    \b
    Exit codes:
      0  the workflows are terminated, or none matches
      1  unknown or finished workflow, or the answer was no
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    sources = (WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED)
    verb = Verb("terminate", _terminate, WorkflowStatus.TERMINATED, sources, " This cannot be undone.")
    change(verb, Selection(workflows or [], status or [], definition, root), url, schema, yes, as_json)


def _suspend(provider: PostgresPersistenceProvider, id: str) -> bool:
    return provider.suspend_workflow(id)


def _resume(provider: PostgresPersistenceProvider, id: str) -> bool:
    return provider.resume_workflow(id)


def _terminate(provider: PostgresPersistenceProvider, id: str) -> bool:
    return provider.terminate_workflow(id)
