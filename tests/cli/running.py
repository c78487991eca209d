"""What a call of the command leaves behind, and what every test of it looks at."""

import re
from collections.abc import Callable

SECRET = "s3cret-pw"
"""Stands in passwords, in payloads and in tokens: nothing that the command says may hold it."""

STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""The only control sequence that may be in a screen that is printed once."""

WITHOUT_ARGUMENTS = ("upgrade", "check", "status", "list", "errors", "events")
ARGUMENTS = {
    **dict.fromkeys(WITHOUT_ARGUMENTS, ()),
    **dict.fromkeys(("show", "suspend", "resume", "terminate"), ("order-4711",)),
    **dict.fromkeys(("purge", "purge-events"), ("--older-than", "30d")),
}
"""Every command but `demo`, with what it cannot do without."""


class Result:
    """How a call of the command ended, and what it said."""

    def __init__(self, code: object, output: str, reported_errors: str) -> None:
        self.code = code
        self.output = output
        self.reported_errors = reported_errors

    @property
    def lines(self) -> list[str]:
        """The output's lines without their styles."""
        return STYLE.sub("", self.output).splitlines()


Command = Callable[..., Result]


def refused(result: Result, code: int) -> str:
    """The one line of a call that was refused."""
    assert result.code == code
    assert result.output == ""
    [line] = result.reported_errors.splitlines()
    assert line.startswith("wfe-postgres: ")
    return line.removeprefix("wfe-postgres: ")


def done(result: Result) -> Result:
    """The result of a call that went well and complained of nothing."""
    assert (result.code, result.reported_errors) == (0, "")
    return result
