"""The page about observability names every message that the library logs."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT

LOGGED = re.compile(r'logger\.(\w+)\(\s*"([^"]+)"')
PLACEHOLDER = re.compile(r"%[+\d.]*[srdf]")
MESSAGES = [found for path in ROOT.joinpath("wfe_postgres").rglob("*.py") for found in LOGGED.findall(path.read_text())]


def test_there_are_messages() -> None:
    """The pattern finds them all; it would be silent about none."""
    calls = sum(path.read_text().count("logger.") for path in ROOT.joinpath("wfe_postgres").rglob("*.py"))
    assert len(MESSAGES) == calls >= 8


@pytest.mark.parametrize(("level", "message"), MESSAGES)
def test_a_message_is_explained(level: str, message: str) -> None:
    """At its level; of its several forms the general one is enough."""
    rows = [row for row in PAGES["observability.md"].splitlines() if row.startswith(f"| {level.upper()} |")]
    beginning = PLACEHOLDER.split(message)[0].split(": ")[0]
    assert any(row.split(" | ")[1].startswith(beginning) for row in rows), message
