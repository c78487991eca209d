"""The observability page documents every log message of the library."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT

LOGGED = re.compile(r'\b(?:logger|LOG)\.(\w+)\(\s*"([^"]+)"')
LEVELS = {"exception": "ERROR"}
PLACEHOLDER = re.compile(r"%[+\d.]*[srdfg]")
MESSAGES = [found for path in ROOT.joinpath("wfe_postgres").rglob("*.py") for found in LOGGED.findall(path.read_text())]


def test_pattern_finds_every_log_call() -> None:
    """Guards against a pattern that matches nothing."""
    sources = [path.read_text() for path in ROOT.joinpath("wfe_postgres").rglob("*.py")]
    calls = sum(len(re.findall(r"\b(?:logger|LOG)\.\w+\(", source)) for source in sources)
    assert len(MESSAGES) == calls >= 27


@pytest.mark.parametrize(("level", "message"), MESSAGES)
def test_log_message_is_documented(level: str, message: str) -> None:
    """The message is documented with its level, with … for each value; its first line in the source is sufficient."""
    row = f"| {LEVELS.get(level, level.upper())} | {PLACEHOLDER.sub('…', message)}"
    assert any(line.startswith(row) for line in PAGES["observability.md"].splitlines()), row
