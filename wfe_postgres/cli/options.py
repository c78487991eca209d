"""Options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
WHEN = "a duration ago (30d, 12h, 45m) or a date (2026-01-31, 2026-01-31T12:00+01:00)"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WFE_DATABASE_URL",
        metavar="URL",
        show_default=False,
        help="URL of the database: postgresql://user:password@host:port/name",
    ),
]
Schema = Annotated[str, typer.Option("--schema", envvar="WFE_SCHEMA", metavar="NAME", help="The schema of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Maximum number of rows.")]
Workflow = Annotated[str, typer.Argument(metavar="ID-OR-NAME", show_default=False, help="The workflow's id or name.")]


def parse_timestamp(text: str) -> datetime:
    """Parse a duration ago or an ISO 8601 date; UTC if it has no time zone."""
    try:
        if ago := re.fullmatch(r"(\d{1,9})([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        parsed = datetime.fromisoformat(text)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"expected {WHEN}") from None
