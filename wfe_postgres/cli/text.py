"""Formatting of times, durations and untrusted texts."""

import re
from datetime import UTC, datetime, timedelta

from wfe_postgres import WorkflowStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1), ("s", 1, "", 0))

TRACEBACK = "Traceback ("
FRAME = '\n  File "'
AFTER_FRAME = r"^[^\n]*(?:\n[ \t][^\n]*)*\n([^ \t\n][^\n]*)"
"""How a Python traceback begins, and a frame in it; what follows its last frame is the exception, in parentheses."""


def telling(message: str) -> str:
    """The message of an error; of a traceback, the line that names the exception."""
    exception = re.match(AFTER_FRAME, message.rpartition(FRAME)[2]) if message.startswith(TRACEBACK) else None
    return exception[1] if exception else message


def plain(text: str) -> str:
    """The text with non-printable characters, such as terminal control codes, escaped."""
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def in_one_line(text: str) -> str:
    """The text in one line, with non-printable characters escaped."""
    return plain(" ".join(text.split()))


def at(timestamp: datetime) -> str:
    """A timestamp in UTC, to the second."""
    return timestamp.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(duration: timedelta) -> str:
    """A duration in its largest unit and the next smaller one."""
    seconds = abs(duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    unit, size, smaller_unit, smaller = next(it for it in UNITS if whole >= it[1])
    rest = whole % size // smaller if smaller else 0
    return f"{whole // size:,} {unit} {rest} {smaller_unit}" if rest else f"{whole // size:,} {unit}"


def distance(timestamp: datetime, now: datetime) -> str:
    """A timestamp relative to now."""
    return f"{span(now - timestamp)} ago" if timestamp <= now else f"in {span(timestamp - now)}"


def from_millis(milliseconds: int) -> datetime | None:
    """The time from milliseconds since the Unix epoch; `None` outside the range of `datetime`."""
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def next_run(status: WorkflowStatus, next_execution: int | None, now: datetime) -> str:
    """When the workflow is due."""
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


def counted(number: int, noun: str) -> str:
    """A number with a noun in singular or plural."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
