"""Changes the status of the workflows that a command line names or selects, and reports each."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import typer

from wfe_postgres import (
    NotFoundError,
    PersistenceError,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowStatus,
)
from wfe_postgres.cli.catalogue import Catalogue
from wfe_postgres.cli.lookups import Found, Step, find_workflow, unfinished_steps
from wfe_postgres.cli.provider import (
    RETRY_BUDGET,
    ExitCode,
    ask,
    complain,
    concerns_all,
    provider_on,
    reported_errors,
)
from wfe_postgres.cli.screen import ignored_closed_pipe, print_json, print_sentence
from wfe_postgres.cli.text import counted, plain

FINISHED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED)

PAGE = 1000

MAX_KINDS = 10
"""How many definitions a question lists."""

MAX_STEPS = 10
"""How many steps of one workflow are listed."""


@dataclass(frozen=True)
class Verb:
    """A change of status: its name, what it does, where it leads, and from where."""

    name: str
    call: Callable[[PostgresPersistenceProvider, str], bool]
    target: WorkflowStatus
    sources: tuple[WorkflowStatus, ...]
    warning: str = ""
    describes_steps: bool = False


@dataclass(frozen=True)
class Selection:
    """The workflows that a command line names, or the filters by which it selects them."""

    names: list[str]
    statuses: list[WorkflowStatus]
    definition: str | None
    root: str | None

    @property
    def is_by_filters(self) -> bool:
        """Whether there are filters."""
        return bool(self.statuses) or self.definition is not None or self.root is not None

    def check(self, verb: Verb) -> None:
        """Raise `typer.BadParameter` unless there are either names or filters that can match."""
        if bool(self.names) == self.is_by_filters:
            raise typer.BadParameter("name workflows, or select them with --status, --definition or --root")
        if not set(self.statuses) <= set(verb.sources):
            possible = " and ".join(verb.sources)
            raise typer.BadParameter(f"{verb.name} is for {possible} workflows", param_hint="--status")


@dataclass(frozen=True)
class Task:
    """What the changes need."""

    verb: Verb
    provider: PostgresPersistenceProvider
    catalogue: Catalogue
    as_json: bool


def change(verb: Verb, selection: Selection, url: str | None, schema: str, yes: bool, as_json: bool) -> None:
    """Change each workflow and report it; one that cannot be changed does not stop the others."""
    selection.check(verb)
    with reported_errors(url), provider_on(url, schema) as provider:
        task = Task(verb, provider, Catalogue(provider, schema, RETRY_BUDGET), as_json)
        if not selection.is_by_filters:
            change_all(task, selection.names)
        elif selected := list(matching(task, selection)):
            if not yes:
                confirm(verb, selected)
            change_all(task, selected)
        elif not as_json:
            print_sentence("No workflow matches.")


def matching(task: Task, selection: Selection) -> Iterator[Found]:
    """The workflows that match all filters and have a status for the change; the root before those below it."""
    statuses, definition = selection.statuses or list(task.verb.sources), selection.definition
    root = find_workflow(task.catalogue, selection.root) if selection.root is not None else None
    if root and root.status in statuses and definition in (None, root.definition_id):
        yield root
    cursor = None
    while True:
        page = task.provider.find_workflows(
            status=statuses,
            definition_id=definition,
            root_workflow_id=root.id if root else None,
            limit=PAGE,
            cursor=cursor,
        )
        for it in page.items:
            yield Found(it.id, it.name, it.workflow_definition_id, it.version, it.status)
        cursor = page.next_cursor
        if cursor is None:
            return


def confirm(verb: Verb, selected: list[Found]) -> None:
    """Say how many workflows match, and ask. Exits if the answer is no."""
    kinds = Counter(f"{it.definition_id} v{it.version}, {it.status}" for it in selected).most_common()
    typer.echo(f"{counted(len(selected), 'workflow')} {'matches' if len(selected) == 1 else 'match'}:", err=True)
    for kind, number in kinds[:MAX_KINDS]:
        typer.echo(f"  {number:,} {plain(kind)}", err=True)
    if len(kinds) > MAX_KINDS:
        typer.echo(f"  {sum(number for _, number in kinds[MAX_KINDS:]):,} others", err=True)
    object = "it" if len(selected) == 1 else "them"
    ask(f"{verb.name.capitalize()} {object}?{verb.warning}")


def change_all(task: Task, selected: Sequence[Found | str]) -> None:
    """Change them one after the other. Those that failed are reported at the end, and decide the exit code."""
    failures: list[tuple[str, ExitCode]] = []
    done = 0
    try:
        for it in selected:
            if failure := change_one(task, it):
                failures.append(failure)
            done += 1
    finally:
        for message, _ in failures:
            complain(message)
        if 0 < done < len(selected):
            complain(f"stopped at workflow {done + 1:,} of {len(selected):,}; those before it are done")
    if failures:
        raise typer.Exit(max(code for _, code in failures))


def change_one(task: Task, workflow: Found | str) -> tuple[str, ExitCode] | None:
    """Change one workflow and report it, or return why that failed. Raises errors that concern all workflows."""
    verb = task.verb
    try:
        before = find_workflow(task.catalogue, workflow) if isinstance(workflow, str) else workflow
        is_suspended = before.status == WorkflowStatus.SUSPENDED
        steps = unfinished_steps(task.catalogue, before.id) if verb.describes_steps and is_suspended else []
        if verb.call(task.provider, before.id):
            with ignored_closed_pipe():
                report(task, before, verb.target, steps)
            return None
        found = find_workflow(task.catalogue, before.id)
    except NotFoundError as error:
        return str(error), ExitCode.NO
    except PersistenceError as error:
        if concerns_all(error):
            raise
        return f"workflow {workflow if isinstance(workflow, str) else workflow.name!r}: {error}", ExitCode.NO_DATABASE
    if found.status in FINISHED:
        since = f" since {found.end} UTC" if found.end else ""
        return f"workflow {found.name!r} is finished: it has been {found.status}{since}", ExitCode.NO
    with ignored_closed_pipe():
        report(task, found, found.status, [])
    return None


def report(task: Task, before: Found, status: str, steps: list[Step]) -> None:
    """Print what was done."""
    if task.as_json:
        facts = {"id": before.id, "name": before.name, "before": before.status, "status": status}
        print_json(facts | ({"steps": steps} if task.verb.describes_steps else {}), indent=None)
        return
    if before.status == status:
        print_sentence(f"The workflow {plain(before.name)} is already {status}.")
        return
    print_sentence(f"The workflow {plain(before.name)} is now {status}; it was {before.status}.")
    if task.verb.describes_steps:
        for line in described(steps):
            print_sentence(line, indent=2)


def described(steps: list[Step]) -> Iterator[str]:
    """What is run again."""
    if not steps:
        yield "No step had failed; it continues where it was."
    for step in steps[:MAX_STEPS]:
        name = plain(step.step_name or f"step {step.step_id}")
        if step.status == PointerStatus.FAILED:
            yield f"{name} is run again; it failed after {counted(step.retry_count + 1, 'attempt')}."
        else:
            yield f"{name} is run again; it was running."
    if more := max(0, len(steps) - MAX_STEPS):
        yield f"{counted(more, 'more step')} {'is' if more == 1 else 'are'} run again."
