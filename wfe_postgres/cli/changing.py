"""Changes the status of the workflows that a command line names, and reports each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import typer

from wfe_postgres import (
    CorruptRowError,
    NotFoundError,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.cli.provider import ExitCode, fail, find, provider_on, reported_errors
from wfe_postgres.cli.screen import print_json
from wfe_postgres.cli.text import at, counted, in_one_line, plain

FINISHED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)


@dataclass(frozen=True)
class Verb:
    """A change of status: its name, what it does, where it leads, and from where."""

    name: str
    call: Callable[[PostgresPersistenceProvider, str], bool]
    target: WorkflowStatus
    sources: tuple[WorkflowStatus, ...]
    describes_steps: bool = False


@dataclass(frozen=True)
class Selection:
    """The workflows that a command line names."""

    names: list[str]
    statuses: list[WorkflowStatus]
    definition: str | None
    root: str | None

    def ids(self, provider: PostgresPersistenceProvider, verb: Verb) -> Iterator[str]:
        """The ids of all that match the options and are in a status for the change."""
        statuses = self.statuses or list(verb.sources)
        if self.root is not None:
            yield self.root
        cursor = None
        while True:
            page = provider.find_workflows(
                status=statuses, definition_id=self.definition, root_workflow_id=self.root, cursor=cursor, limit=1000
            )
            yield from (it.id for it in page.items)
            cursor = page.next_cursor
            if cursor is None:
                return


def change(verb: Verb, selection: Selection, url: str | None, schema: str, yes: bool, as_json: bool) -> None:
    """Change each workflow and report it; one that cannot be changed does not stop the others."""
    by_option = bool(selection.statuses) or selection.definition is not None or selection.root is not None
    if bool(selection.names) == by_option:
        raise typer.BadParameter("name workflows, or select them with --status, --definition or --root")
    with reported_errors(url), provider_on(url, schema) as provider:
        ids = selection.names or list(dict.fromkeys(selection.ids(provider, verb)))
        if by_option and not yes:
            typer.confirm(f"{verb.name} {counted(len(ids), 'workflow')}?", abort=True, err=True)
        failed = [error for id in ids if (error := _try(verb, provider, id, as_json))]
    for error in failed[:-1]:
        typer.echo(f"wfe-postgres: {in_one_line(error)}", err=True)
    if failed:
        fail(failed[-1], ExitCode.NO)


def _try(verb: Verb, provider: PostgresPersistenceProvider, workflow: str, as_json: bool) -> str | None:
    """Change one workflow and report it, or return why that is not possible."""
    try:
        before = _look(provider, workflow)
        changed = verb.call(provider, before["id"])
        after = before if changed else _look(provider, workflow)
    except NotFoundError as error:
        return str(error)
    if not changed and after["status"] in FINISHED:
        since = f" since {at(after['complete_time'])} UTC" if after["complete_time"] else ""
        return f"workflow {after['name']!r} is finished: it has been {after['status']}{since}"
    now = verb.target if changed else after["status"]
    if as_json:
        print_json({"id": after["id"], "name": after["name"], "before": after["status"], "status": now})
    elif changed:
        was = f"; it was {before['status']}" if before["status"] else ""
        typer.echo(f"The workflow {plain(after['name'])} is now {now}{was}.")
        for line in before["steps"] if verb.describes_steps else ():
            typer.echo(f"  {line}")
    else:
        typer.echo(f"The workflow {plain(after['name'])} is already {now}.")
    return None


def _look(provider: PostgresPersistenceProvider, workflow: str) -> dict[str, Any]:
    """What is reported of a workflow; of one that cannot be read, its id, by which it can be changed all the same."""
    try:
        instance = find(provider, workflow)
    except CorruptRowError:
        return {"id": workflow, "name": workflow, "status": None, "complete_time": None, "steps": []}
    facts = {"id": instance.id, "name": instance.name, "status": instance.status}
    return facts | {"complete_time": instance.complete_time, "steps": _runs_again(instance)}


def _runs_again(instance: WorkflowInstance) -> list[str]:
    states = {PointerStatus.FAILED: "failed", PointerStatus.RUNNING: "was running"}
    return [
        f"step {it.step_id} {plain(it.step_name or it.id)} {states[it.status]} and is run again"
        f" ({counted(it.retry_count + 1, 'attempt')} before)"
        for it in instance.execution_pointers
        if it.status in states
    ]
