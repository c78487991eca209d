"""Which functions of the package a call passes, in how many files: traced at run time."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import wfe_postgres

PACKAGE = str(Path(wfe_postgres.__file__).parent)


@dataclass
class Trace:
    """What one call passed."""

    functions: list[str] = field(default_factory=list)
    """In the order in which they were first called."""

    @property
    def files(self) -> list[str]:
        """The files of these functions, in the order in which they were entered."""
        return list(dict.fromkeys(function.partition(":")[0] for function in self.functions))


def trace(call: Callable[[], object]) -> Trace:
    """Make the call, and note the functions of the package that it passes; comprehensions are no functions."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if (
            event == "call"
            and code.co_filename.startswith(PACKAGE)
            and code.co_name not in ("<dictcomp>", "<listcomp>")
        ):
            found[f"{code.co_filename[len(PACKAGE) + 1 :]}:{code.co_qualname}"] = None

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Trace(list(found))
