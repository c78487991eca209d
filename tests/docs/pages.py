"""The pages of docs/ and their code blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SNIPPET = re.compile(r'--8<-- "([^"]+)"')


class Block(NamedTuple):
    """A fenced code block: its language, its text, and the number of its first line in the page."""

    language: str
    text: str
    line: int


def blocks(page: str, *languages: str) -> list[Block]:
    """The code blocks of the page in these languages, in order."""
    return blocks_in(PAGES[page], *languages)


def blocks_in(text: str, *languages: str) -> list[Block]:
    """Like `blocks`, for any Markdown text."""
    found = (Block(it[1], it[2], text.count("\n", 0, it.start(2)) + 1) for it in FENCE.finditer(text))
    return [block for block in found if block.language in languages]


def program(parts: list[Block]) -> str:
    """The Python blocks as one program with the line numbers of the page."""
    source = ""
    for part in parts:
        source += "\n" * (part.line - 1 - source.count("\n")) + part.text
    return source


def session(consoles: list[Block]) -> tuple[list[str], list[str]]:
    """The commands in these blocks, and the lines of output that they show."""
    lines = [line for block in consoles for line in block.text.splitlines()]
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return typed, [line for line in lines if not line.startswith("$ ")]


def pages_with(language: str) -> list[str]:
    """The names of the pages with a block in this language."""
    return [page for page in PAGES if blocks(page, language)]
