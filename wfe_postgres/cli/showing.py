"""`show`: one workflow, as the tree of its pointers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType
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
from wfe_postgres.cli.text import at, distance, in_one_line, next_run, plain, span
from wfe_postgres.cli.tree import DEEPEST, Elided, Forest, Node, shown
from wfe_postgres.contract.models import FINISHED_POINTERS
from wfe_postgres.orm import SCHEMA

MOST_ERRORS = 1000
"""The newest errors, of which each pointer shows its last."""

LONGEST_MESSAGE = 120
"""Characters of an error's message; `wfe-postgres errors` shows all of it."""

T = TypeVar("T", EventSubscription, ExecutionError)


@dataclass(frozen=True)
class Story:
    """What is known of a workflow at a moment."""

    instance: WorkflowInstance
    subscriptions: dict[str, list[EventSubscription]]
    errors: dict[str, list[ExecutionError]]
    """By pointer, newest first."""
    now: datetime


def show(
    workflow: Workflow,
    url: Url = None,
    schema: Schema = SCHEMA,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every pointer, also thousands that are alike.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a workflow with its pointers as a tree.

    A pointer stands below the one that encloses it and after its predecessor; with its status, how long it took or
    has taken, retries, what it waits for and its last error. Of many that are alike the first ones are shown. What
    the workflow and its steps carry as data is not shown.

    \b
    Example:
      wfe-postgres show order-4711
    \b
    Exit codes:
      0  that is it
      1  there is no such workflow
      2  the store is missing, older or newer than this library
      3  the database cannot be reached, or refuses
    """
    with reported_errors(url), provider_on(url, schema) as provider:
        instance = find(provider, workflow)
        subscriptions = provider.get_workflow_subscriptions(instance.id)
        errors = provider.get_execution_errors(instance.id, limit=MOST_ERRORS)
    if as_json:
        print_json({"workflow": instance, "subscriptions": subscriptions, "errors": errors})
        return
    story = Story(instance, by_pointer(subscriptions), by_pointer(errors), datetime.now(UTC))
    console = make_console()
    if everything:
        console.width = PIPE_WIDTH  # deep nesting may be wider than a terminal, which breaks such lines by itself
    print_all(console, facts(story), "", tree(story, everything))


def by_pointer(things: Iterable[T]) -> dict[str, list[T]]:
    """Subscriptions or errors, by the pointer that they belong to."""
    found: dict[str, list[T]] = defaultdict(list)
    for thing in things:
        found[thing.execution_pointer_id].append(thing)
    return found


def facts(story: Story) -> Table:
    """What is known of the workflow as a whole."""
    instance, now = story.instance, story.now
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
        ("pointers", tally(Counter(pointer.status for pointer in instance.execution_pointers))),
    ):
        if value:
            table.add_row(name, plain(value))
    return table


def status_of(instance: WorkflowInstance, now: datetime) -> Text:
    """Its status, and when it is to be run."""
    return Text.assemble(
        (instance.status, STYLES[instance.status]), f"  {next_run(instance.status, instance.next_execution, now)}"
    )


def ended(instance: WorkflowInstance) -> str | None:
    """When it ended, and after how long."""
    if instance.complete_time is None:
        return None
    return f"{at(instance.complete_time)} UTC, after {span(instance.complete_time - instance.create_time)}"


def tally(statuses: Counter[PointerStatus]) -> str:
    """How many pointers there are, and of which status."""
    if len(statuses) == 1:
        [(status, number)] = statuses.items()
        return f"{number:,} {status}"
    kinds = ", ".join(f"{number:,} {status}" for status, number in statuses.most_common())
    return f"{statuses.total():,}: {kinds}" if kinds else "none"


def tree(story: Story, everything: bool) -> Tree:
    """The pointers, as a tree; all of them, or those that are worth a line."""
    elided = False
    root = Tree("", hide_root=True, guide_style="dim")
    waiting = [(root, Forest(story.instance.execution_pointers).roots, 1)]
    while waiting:
        branch, level, depth = waiting.pop()
        nodes: Sequence[Node | Elided] = level if everything else list(shown(level))
        if depth > DEEPEST and level and not everything:
            nodes = [Elided(level)]
        for node in nodes:
            if isinstance(node, Elided):
                elided = True
                branch.add(Text(f"⋮ {tally(node.statuses)}", "dim"))
            elif below := node.below:
                waiting.append((branch.add(label(node, story)), below, depth + 1))
            else:
                branch.add(label(node, story))
    if elided:
        root.add(Text("Lines with ⋮ stand for what is alike; --all shows everything.", "dim"))
    return root


def label(node: Node, story: Story) -> RenderableType:
    """The pointer in a line, and below it what it waits for and what went wrong."""
    pointer = node.pointer
    head = Text.assemble(
        (plain(pointer.step_name or f"step {pointer.step_id}"), "bold"), "  ", (pointer.status, STYLES[pointer.status])
    )
    for fact in remarks(node, story.now):
        head.append(f"  {fact}", "dim")
    lines = [head]
    lines += [Text(wait, "magenta") for wait in waits(pointer, story)]
    if errors := story.errors.get(pointer.id):
        lines.append(Text(last_of(errors), "red"))
    return Text("\n").join(lines)


def remarks(node: Node, now: datetime) -> Iterator[str]:
    """How long it took or has taken, how often it was tried again, how far its branches are."""
    pointer = node.pointer
    if pointer.start_time and pointer.end_time:
        yield span(pointer.end_time - pointer.start_time)
    elif pointer.start_time and pointer.status == PointerStatus.RUNNING:
        yield f"for {span(now - pointer.start_time)}"
    if pointer.retry_count:
        yield "1 retry" if pointer.retry_count == 1 else f"{pointer.retry_count:,} retries"
    if branches := node.enclosed:
        over = sum(it.pointer.status in FINISHED_POINTERS for it in branches)
        yield f"{over:,} of {len(branches):,} ended"


def waits(pointer: ExecutionPointer, story: Story) -> Iterator[str]:
    """What has to happen before it goes on."""
    if pointer.sleep_until and pointer.status in (PointerStatus.SLEEPING, PointerStatus.PENDING):
        verb = "sleeps" if pointer.sleep_until > story.now else "slept"
        yield f"{verb} until {at(pointer.sleep_until)} UTC, {distance(pointer.sleep_until, story.now)}"
    subscriptions = story.subscriptions.get(pointer.id, [])
    for it in subscriptions:
        yield f"waits for event {plain(it.event_name)} / {plain(it.event_key)}: {holder(it, story.now)}"
    if pointer.status == PointerStatus.WAITING_FOR_EVENT and not subscriptions:
        name = f"{plain(pointer.event_name or '?')} / {plain(pointer.event_key or '?')}"
        yield f"waits for event {name}, but has no subscription"


def holder(subscription: EventSubscription, now: datetime) -> str:
    """Who has the right to deliver the event."""
    if subscription.external_token is None:
        return "open"
    worker = plain(subscription.external_worker_id or "somebody")
    expiry = subscription.external_token_expiry
    if expiry is None:
        return f"held by {worker}, without end"
    if expiry <= now:
        return f"open, the token of {worker} expired {distance(expiry, now)}"
    return f"held by {worker}, expires {distance(expiry, now)}"


def last_of(errors: list[ExecutionError]) -> str:
    """The last error's message, in one line, and how many there are."""
    message = in_one_line(errors[0].message)
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]} …"
    return message if len(errors) == 1 else f"{message} ({len(errors):,} errors)"
