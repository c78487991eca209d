"""The sizes on the operations page are those that the program on the page measures."""

import re
import subprocess
import sys

import pytest

from tests.conftest import Sql
from tests.docs.pages import PAGES, blocks, program

PAGE = "operations.md"
TOLERANCE = 0.25
"""Pages are 8 kB, and index sizes depend on random ids."""


def documented(heading: str) -> dict[str, int]:
    """The rows of the table with this heading; names are cut at the colon."""
    [table] = re.findall(rf"^\| one \| {heading} \|\n\|.*\n((?:\|.*\n)+)", PAGES[PAGE], re.MULTILINE)
    rows = re.findall(r"^\| ([^|:]+).* \| (\d+) \|$", table, re.MULTILINE)
    return {name.strip(): int(number) for name, number in rows}


def test_documented_sizes_equal_measured_sizes(
    empty_database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFE_DATABASE_URL", empty_database_url)
    source = program(blocks(PAGE, "python"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = [line.split("; ") for line in done.stdout.splitlines()]
    sizes = {name: int(number) for heading, name, number in measured if heading == "bytes in the store"}
    assert sizes == pytest.approx(documented("bytes in the store"), rel=TOLERANCE)
    logs = {name: int(number) for heading, name, number in measured if heading == "bytes of log"}
    assert logs.keys() == documented("bytes of write-ahead log").keys()
    if sql("SHOW full_page_writes") == [("off",)]:
        assert logs == pytest.approx(documented("bytes of write-ahead log"), rel=TOLERANCE)
