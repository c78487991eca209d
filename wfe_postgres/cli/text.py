"""How values are written for people: times, lengths of time, and texts that came from others."""

from datetime import UTC, datetime, timedelta

from wfe_postgres import WorkflowStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1), ("s", 1, "", 0))


def plain(text: str) -> str:
    """The text with what could steer a terminal, or hide in it, shown as its code."""
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def in_one_line(text: str) -> str:
    """The text without its line breaks, and plain."""
    return plain(" ".join(text.split()))


def at(moment: datetime) -> str:
    """A time in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """A length of time, by its greatest unit and the next one."""
    seconds = abs(length.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    unit, size, smaller_unit, smaller = next(it for it in UNITS if whole >= it[1])
    rest = whole % size // smaller if smaller else 0
    return f"{whole // size:,} {unit} {rest} {smaller_unit}" if rest else f"{whole // size:,} {unit}"


def distance(moment: datetime, now: datetime) -> str:
    """How far a time lies back, or ahead."""
    return f"{span(now - moment)} ago" if moment <= now else f"in {span(moment - now)}"


def from_millis(milliseconds: int) -> datetime | None:
    """The time so many milliseconds after the Unix epoch; `None` outside of Python's calendar."""
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def next_run(status: WorkflowStatus, next_execution: int | None, now: datetime) -> str:
    """When a workflow is to be run."""
    if status != WorkflowStatus.RUNNABLE:
        return ""
    if next_execution is None:
        return "waits"
    due = from_millis(next_execution)
    if due is None:
        return "never" if next_execution > 0 else "due"
    if due > now:
        return distance(due, now)
    return f"due {span(now - due)}" if due > EPOCH else "due"


def counted(number: int, thing: str) -> str:
    """So many things, in words that fit the number."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
