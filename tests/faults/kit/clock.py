"""Hosts whose clock is wrong: libfaketime shows a spawned process another time of day than the machine's."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.kit.form import require_tool

HOUR = 3600


class Clock:
    """A clock that goes so many seconds before the machine's; it can be set while processes live by it."""

    def __init__(self, path: Path, ahead: int) -> None:
        require_tool("faketime")
        self._path = path
        self.set(ahead)

    def set(self, ahead: int) -> None:
        """Put it forward or back, for all that live by it."""
        written = self._path.with_suffix(".new")
        written.write_text(f"{ahead:+}")
        written.replace(self._path)  # nobody reads half a number

    @contextmanager
    def followed(self) -> Iterator[None]:
        """What is spawned within the block lives by this clock; what it measures by the monotonic one stays true."""
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LD_PRELOAD", _library())
            environment.setenv("FAKETIME_TIMESTAMP_FILE", str(self._path))
            environment.setenv("FAKETIME_NO_CACHE", "1")
            environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            yield


def _library() -> str:
    """Where the library lies, which only the program knows."""
    told = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()
