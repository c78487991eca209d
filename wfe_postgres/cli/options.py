"""The options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
WHEN = "so long ago (30d, 12h, 45m), or a date (2026-01-31, 2026-01-31T12:00+01:00)"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WFE_DATABASE_URL",
        metavar="URL",
        show_default=False,
        help="The database: postgresql://user:password@host:port/name",
    ),
]
Schema = Annotated[str, typer.Option("--schema", envvar="WFE_SCHEMA", metavar="NAME", help="The schema of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most.")]
Workflow = Annotated[str, typer.Argument(metavar="ID-OR-NAME", show_default=False, help="The workflow's id or name.")]


def moment(text: str) -> datetime:
    """The time that an option means: so long ago, or a date; in UTC where it names no zone."""
    try:
        if ago := re.fullmatch(r"(\d{1,9})([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        given = datetime.fromisoformat(text)
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"a time is {WHEN}") from None
