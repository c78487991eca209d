"""Processes with a wrong clock, by means of libfaketime."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.kit.form import require_tool

HOUR = 3600


class Clock:
    """A clock that is `ahead` seconds ahead of the machine; it can be changed while processes use it."""

    def __init__(self, path: Path, ahead: int) -> None:
        require_tool("faketime")
        self._path = path
        self.set(ahead)

    def set(self, ahead: int) -> None:
        """Change the offset for all processes that use the clock."""
        written = self._path.with_suffix(".new")
        written.write_text(f"{ahead:+}")
        written.replace(self._path)  # atomic, so that no process reads a partial number

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Processes that are spawned in the block use this clock; their monotonic clock is not changed."""
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LD_PRELOAD", _library())
            environment.setenv("FAKETIME_TIMESTAMP_FILE", str(self._path))
            environment.setenv("FAKETIME_NO_CACHE", "1")
            environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            yield


def _library() -> str:
    """Return the path of the library, as reported by the `faketime` program."""
    for _ in range(5):  # it fails where a killed process of the same id has left its shared memory
        output = subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True)
        if output.returncode == 0:
            return output.stdout.strip()
    raise OSError(f"faketime does not run: {output.stderr}")
