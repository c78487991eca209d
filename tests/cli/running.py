"""The result of a call of the command, and common checks."""

import re
from collections.abc import Callable

SECRET = "s3cret-pw"
"""Used in passwords, payloads and tokens: must not appear in any output of the command."""

STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""The only control sequences allowed in output that is printed once."""

WITHOUT_ARGUMENTS = ("upgrade", "check", "status", "list", "errors", "events")
ARGUMENTS = {
    **dict.fromkeys(WITHOUT_ARGUMENTS, ()),
    **dict.fromkeys(("show", "suspend", "resume", "retry", "terminate"), ("order-4711",)),
    "publish": ("paid", "4711"),
    **dict.fromkeys(("purge", "purge-events", "purge-errors", "purge-orphans"), ("--older-than", "30d")),
}
"""Every command except `demo` and `work`, with its required arguments."""


class Result:
    """The exit code and the output of a call of the command."""

    def __init__(self, code: object, output: str, reported_errors: str) -> None:
        self.code = code
        self.output = output
        self.reported_errors = reported_errors

    @property
    def lines(self) -> list[str]:
        """The lines of the output without styles."""
        return STYLE.sub("", self.output).splitlines()


Command = Callable[..., Result]


def error_line(result: Result, code: int) -> str:
    """Check that the call failed with this exit code, and return its one-line error message."""
    assert result.code == code
    assert result.output == ""
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: ")
    return line.removeprefix("wfe-postgres: ")


def succeeded(result: Result) -> Result:
    """Check that the call succeeded without error output, and return its result."""
    assert (result.code, result.reported_errors) == (0, "")
    return result
