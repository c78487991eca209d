"""The observability page documents every log message of the library."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT

LOGGED = re.compile(r'logger\.(\w+)\(\s*"([^"]+)"')
PLACEHOLDER = re.compile(r"%[+\d.]*[srdf]")
MESSAGES = [found for path in ROOT.joinpath("wfe_postgres").rglob("*.py") for found in LOGGED.findall(path.read_text())]


def test_pattern_finds_every_log_call() -> None:
    """Guards against a pattern that matches nothing."""
    calls = sum(path.read_text().count("logger.") for path in ROOT.joinpath("wfe_postgres").rglob("*.py"))
    assert len(MESSAGES) == calls >= 8


@pytest.mark.parametrize(("level", "message"), MESSAGES)
def test_log_message_is_documented(level: str, message: str) -> None:
    """The message is documented with its level; the text up to the first placeholder or colon is sufficient."""
    rows = [row for row in PAGES["observability.md"].splitlines() if row.startswith(f"| {level.upper()} |")]
    beginning = PLACEHOLDER.split(message)[0].split(": ")[0]
    assert any(row.split(" | ")[1].startswith(beginning) for row in rows), message
