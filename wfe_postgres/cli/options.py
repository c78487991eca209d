"""Options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
WHEN = "a duration ago (30d, 12h, 45m) or a date (2026-01-31, 2026-01-31T12:00+01:00)"

URL_HELP = "URL of the database: postgresql://user:pw@host/name"
SCHEMA_HELP = "The schema of the store."


def or_common(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
    """The value after the command's name, else the one before it, else the environment's or the default."""
    source = context.get_parameter_source(str(parameter.name))
    common: str | None = context.parent.params.get(str(parameter.name)) if context.parent else None
    return value if common is None or (source is not None and source.name == "COMMANDLINE") else common


CommonUrl = Annotated[str | None, typer.Option("--url", metavar="URL", show_default=False, help=URL_HELP)]
CommonSchema = Annotated[str | None, typer.Option("--schema", metavar="NAME", show_default=False, help=SCHEMA_HELP)]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="WFE_DATABASE_URL", metavar="URL", show_default=False, help=URL_HELP, callback=or_common
    ),
]
Schema = Annotated[
    str, typer.Option("--schema", envvar="WFE_SCHEMA", metavar="NAME", help=SCHEMA_HELP, callback=or_common)
]
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


def text_option(name: str, help: str) -> Any:
    """An option with a text value."""
    return typer.Option(name, metavar="TEXT", show_default=False, help=help)


def time_option(name: str, help: str) -> Any:
    """An option with a timestamp."""
    return typer.Option(name, parser=parse_timestamp, metavar="WHEN", show_default=False, help=help)
