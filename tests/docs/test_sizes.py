"""The numbers on the page about operations are those that its own program measures."""

import re
import subprocess
import sys

import pytest

from tests.conftest import Sql
from tests.docs.pages import PAGES, blocks, program

PAGE = "operations.md"
TOLERANCE = 0.25
"""Pages are 8 kB, and the shape of an index depends on random ids."""


def on_the_page(heading: str) -> dict[str, int]:
    """The rows of the table with this heading; a name ends at its colon."""
    [table] = re.findall(rf"^\| one \| {heading} \|\n\|.*\n((?:\|.*\n)+)", PAGES[PAGE], re.MULTILINE)
    rows = re.findall(r"^\| ([^|:]+).* \| (\d+) \|$", table, re.MULTILINE)
    return {name.strip(): int(number) for name, number in rows}


def test_the_sizes_are_what_is_measured(empty_database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFE_DATABASE_URL", empty_database_url)
    source = program(blocks(PAGE, "python"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = [line.split("; ") for line in done.stdout.splitlines()]
    sizes = {name: int(number) for heading, name, number in measured if heading == "bytes in the store"}
    assert sizes == pytest.approx(on_the_page("bytes in the store"), rel=TOLERANCE)
    logs = {name: int(number) for heading, name, number in measured if heading == "bytes of log"}
    assert logs.keys() == on_the_page("bytes of write-ahead log").keys()
    if sql("SHOW full_page_writes") == [("off",)]:
        assert logs == pytest.approx(on_the_page("bytes of write-ahead log"), rel=TOLERANCE)
