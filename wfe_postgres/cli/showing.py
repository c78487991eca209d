"""`show`: one workflow with its pointers as a tree."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from wfe_postgres import (
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    WorkflowInstance,
)
from wfe_postgres.cli.options import Json, Schema, Url, Workflow
from wfe_postgres.cli.provider import find, provider_on, reported_errors
from wfe_postgres.cli.screen import PIPE_WIDTH, STYLES, make_console, print_json
from wfe_postgres.cli.screen import show as print_all
from wfe_postgres.cli.text import at, distance, in_one_line, next_run, plain, span, telling
from wfe_postgres.contract.models import FINISHED_POINTERS
from wfe_postgres.host.tree import MAX_DEPTH, Elided, Forest, Node, shown
from wfe_postgres.orm import SCHEMA

MAX_ERRORS = 1000
"""How many of the newest errors are read; each pointer shows its last one."""

MAX_MESSAGE_LENGTH = 120
"""Characters of an error message that are shown; `wfe-postgres errors` prints it in full."""

T = TypeVar("T", EventSubscription, ExecutionError)


@dataclass(frozen=True)
class Details:
    """A workflow with its subscriptions and errors, and the time of the read."""

    instance: WorkflowInstance
    subscriptions: dict[str, list[EventSubscription]]
    errors: dict[str, list[ExecutionError]]
    """By pointer id, newest first."""
    now: datetime


def show(
    workflow: Workflow,
    url: Url = None,
    schema: Schema = SCHEMA,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every pointer, without grouping similar ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a workflow and its pointers.

    The pointers are a tree. A pointer is shown below the pointer that encloses it and after its predecessor, with its
    status, duration, retries, what it waits for and its last error. Similar pointers are grouped. The data of the
    workflow and its steps is not shown.

    \b
    Example:
      wfe-postgres show order-4711
    \b
    Exit codes:
      0  success
      1  the workflow does not exist
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        instance = find(provider, workflow)
        subscriptions = provider.get_workflow_subscriptions(instance.id)
        errors = provider.get_execution_errors(instance.id, limit=MAX_ERRORS)
    if as_json:
        print_json({"workflow": instance, "subscriptions": subscriptions, "errors": errors})
        return
    details = Details(instance, by_pointer(subscriptions), by_pointer(errors), datetime.now(UTC))
    console = make_console()
    if everything:
        console.width = PIPE_WIDTH  # deep nesting can exceed the terminal's width; the terminal wraps the lines
    print_all(console, summary(details), "", tree(details, everything))


def by_pointer(items: Iterable[T]) -> dict[str, list[T]]:
    """Group subscriptions or errors by pointer id."""
    groups: dict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[item.execution_pointer_id].append(item)
    return groups


def summary(details: Details) -> Table:
    """The fields of the workflow itself."""
    instance, now = details.instance, details.now
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("workflow", Text(plain(instance.name), "bold"))
    table.add_row("status", status_of(instance, now))
    for name, value in (
        ("id", instance.id if instance.id != instance.name else None),
        ("definition", f"{instance.workflow_definition_id} v{instance.version}"),
        ("description", instance.description),
        ("reference", instance.reference),
        ("root", instance.root_workflow_id),
        ("created", f"{at(instance.create_time)} UTC, {distance(instance.create_time, now)}"),
        ("ended", ended(instance)),
        ("pointers", count_by_status(Counter(pointer.status for pointer in instance.execution_pointers))),
    ):
        if value:
            table.add_row(name, plain(value))
    return table


def status_of(instance: WorkflowInstance, now: datetime) -> Text:
    """The status and the next execution."""
    return Text.assemble(
        (instance.status, STYLES[instance.status]), f"  {next_run(instance.status, instance.next_execution, now)}"
    )


def ended(instance: WorkflowInstance) -> str | None:
    """The end time and the duration."""
    if instance.complete_time is None:
        return None
    return f"{at(instance.complete_time)} UTC, after {span(instance.complete_time - instance.create_time)}"


def count_by_status(statuses: Counter[PointerStatus]) -> str:
    """The number of pointers, in total and by status."""
    if len(statuses) == 1:
        [(status, number)] = statuses.items()
        return f"{number:,} {status}"
    kinds = ", ".join(f"{number:,} {status}" for status, number in statuses.most_common())
    return f"{statuses.total():,}: {kinds}" if kinds else "none"


def tree(details: Details, everything: bool) -> Tree:
    """The pointers as a tree; similar ones are grouped unless `everything`."""
    elided = False
    root = Tree("", hide_root=True, guide_style="dim")
    waiting = [(root, Forest(details.instance.execution_pointers).roots, 1)]
    while waiting:
        branch, level, depth = waiting.pop()
        nodes: Sequence[Node | Elided] = level if everything else list(shown(level))
        if depth > MAX_DEPTH and level and not everything:
            nodes = [Elided(level)]
        for node in nodes:
            if isinstance(node, Elided):
                elided = True
                branch.add(Text(f"⋮ {count_by_status(node.statuses)}", "dim"))
            elif below := node.below:
                waiting.append((branch.add(label(node, details)), below, depth + 1))
            else:
                branch.add(label(node, details))
    if elided:
        root.add(Text("⋮ groups similar pointers; --all shows every pointer.", "dim"))
    return root


def label(node: Node, details: Details) -> RenderableType:
    """The pointer in one line, and below it what it waits for and its last error."""
    pointer = node.pointer
    head = Text.assemble(
        (plain(pointer.step_name or f"step {pointer.step_id}"), "bold"), "  ", (pointer.status, STYLES[pointer.status])
    )
    for remark in remarks(node, details.now):
        head.append(f"  {remark}", "dim")
    below = [Text(wait, "magenta") for wait in waits(pointer, details)]
    if errors := details.errors.get(pointer.id):
        below.append(Text(last_of(errors), "red"))
    return Group(head, *(Padding(line, (0, 0, 0, 2)) for line in below))


def remarks(node: Node, now: datetime) -> Iterator[str]:
    """The duration, the number of retries and the progress of the branches."""
    pointer = node.pointer
    if pointer.start_time and pointer.end_time:
        yield span(pointer.end_time - pointer.start_time)
    elif pointer.start_time and pointer.status == PointerStatus.RUNNING:
        yield f"for {span(now - pointer.start_time)}"
    if pointer.retry_count:
        yield "1 retry" if pointer.retry_count == 1 else f"{pointer.retry_count:,} retries"
    if branches := node.enclosed:
        ended = sum(it.pointer.status in FINISHED_POINTERS for it in branches)
        yield f"{ended:,} of {len(branches):,} ended"


def waits(pointer: ExecutionPointer, details: Details) -> Iterator[str]:
    """What the pointer waits for."""
    if pointer.sleep_until and pointer.status in (PointerStatus.SLEEPING, PointerStatus.PENDING):
        verb = "sleeps" if pointer.sleep_until > details.now else "slept"
        yield f"{verb} until {at(pointer.sleep_until)} UTC, {distance(pointer.sleep_until, details.now)}"
    subscriptions = details.subscriptions.get(pointer.id, [])
    for it in subscriptions:
        yield f"waits for event {plain(it.event_name)} / {plain(it.event_key)}: {holder(it, details.now)}"
    if pointer.status == PointerStatus.WAITING_FOR_EVENT and not subscriptions:
        name = f"{plain(pointer.event_name or '?')} / {plain(pointer.event_key or '?')}"
        yield f"waits for event {name}, but has no subscription"


def holder(subscription: EventSubscription, now: datetime) -> str:
    """The state of the subscription's token and its holder."""
    if subscription.external_token is None:
        return "open"
    worker = plain(subscription.external_worker_id or "unknown worker")
    expiry = subscription.external_token_expiry
    if expiry is None:
        return f"held by {worker}, does not expire"
    if expiry <= now:
        return f"open, the token of {worker} expired {distance(expiry, now)}"
    return f"held by {worker}, expires {distance(expiry, now)}"


def last_of(errors: list[ExecutionError]) -> str:
    """The message of the last error in one line, and the number of errors."""
    message = in_one_line(telling(errors[0].message))
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[:MAX_MESSAGE_LENGTH]} …"
    return message if len(errors) == 1 else f"{message} ({len(errors):,} errors)"
