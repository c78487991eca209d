"""Tables for the results of `errors`."""

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from wfe_postgres.cli.error_queries import MAX_MESSAGE, ErrorKind, StepError
from wfe_postgres.cli.screen import make_console, make_table, mention_more, print_sentence, show, show_blocks
from wfe_postgres.cli.text import at, counted, in_one_line, plain


def display_errors(found: list[StepError], limit: int) -> None:
    """One block per error with the full message on a terminal; one line per error in a pipe."""
    if not found:
        print_sentence("No errors.")
        return
    console = make_console()
    if console.is_terminal:
        show_blocks(console, map(error_block, found[:limit]))
    else:
        table = make_table(console, "time, UTC", "workflow", "pointer", "step", "message")
        for error in found[:limit]:
            ids = plain(error.workflow_id), plain(error.execution_pointer_id)
            table.add_row(at(error.error_time), *ids, plain(error.step or ""), in_one_line(error.message))
        show(console, table)
    mention_more(console, len(found) > limit)


def error_block(error: StepError) -> RenderableType:
    """The time and the step of an error; its workflow, its pointer and its message below them."""
    head = Text.assemble((at(error.error_time), "bold"), "  ", plain(error.step or "unknown step"))
    workflow = plain(error.workflow) if error.workflow is not None else f"{plain(error.workflow_id)} (not stored)"
    ids = Text(f"workflow {workflow}\npointer {plain(error.execution_pointer_id)}", "dim")
    message = Text("\n".join(map(plain, error.message.splitlines())), "red")
    return Group(head, Padding(Group(ids, message), (0, 0, 0, 2)))


def display_kinds(kinds: list[ErrorKind], limit: int) -> None:
    """One block per kind on a terminal, one line per kind in a pipe."""
    if not kinds:
        print_sentence("No errors.")
        return
    console = make_console()
    if console.is_terminal:
        show_blocks(console, map(kind_block, kinds[:limit]))
    else:
        table = make_table(console, "errors", "workflows", "first, UTC", "last, UTC", "definition", "step", "message")
        for it in kinds[:limit]:
            names = plain(it.definition_id or ""), plain(it.step or "")
            times = at(it.first), at(it.last)
            table.add_row(f"{it.errors}", f"{it.workflows}", *times, *names, first_part(it.message))
        show(console, table)
    if len(kinds) > limit:
        rest = sum(it.errors for it in kinds[limit:])
        more = f"{counted(len(kinds) - limit, 'more kind')} with {counted(rest, 'error')}: see --limit"
        typer.echo(more, err=not console.is_terminal)


def first_part(message: str) -> str:
    """The message of a kind; it is the beginning of a longer one if it has the maximum length."""
    return in_one_line(message) + (" …" if len(message) == MAX_MESSAGE else "")


def kind_block(kind: ErrorKind) -> RenderableType:
    """The number of errors and their step; their times and the newest message below them."""
    of = f" of {plain(kind.definition_id)}" if kind.definition_id is not None else ""
    head = Text.assemble((counted(kind.errors, "error"), "bold"), f"  {plain(kind.step or 'unknown step')}{of}")
    times = f"{at(kind.first)} to {at(kind.last)}" if kind.errors > 1 else at(kind.last)
    seen = Text(f"{times}, {counted(kind.workflows, 'workflow')}", "dim")
    return Group(head, Padding(Group(seen, Text(first_part(kind.message), "red")), (0, 0, 0, 2)))
