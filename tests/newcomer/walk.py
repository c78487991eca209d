"""What is typed, where, and in which order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import PAGES, ROOT, blocks_in, program, session

LONG = ("make test", "make bench", "make check")
"""How a command begins that takes minutes."""

ENDLESS = re.compile(
    r"^(\$ )?(make docs|python examples/exporter|\S*python -m examples\.|\S*gunicorn |\S*python -m django work|\S*flask .* work$)"
)
"""Commands that run until Ctrl-C."""

NOT_HERE = ("docker ",)

PRELUDE = """
endless() {  # it runs until it is interrupted, and then ends by itself
  timeout --signal=INT --kill-after=20 10 "$@" || [ $? = 124 ]
}
"""


@dataclass(frozen=True)
class Stretch:
    """A part of the walk: one script, and what it is called; `libpq`: it also needs PostgreSQL's own tools."""

    name: str
    script: str
    variables: dict[str, str] = field(default_factory=dict)


def walk(url: str, *, long: bool) -> Iterator[Stretch]:
    """README from top to bottom, then the pages, then the shops; `url` is the server of docker-compose.yml."""
    readme = (ROOT / "README.md").read_text()
    consoles = [session([block])[0] for block in blocks_in(readme, "console")]
    demo, install, command = consoles
    yield Stretch("README: try it", script(demo, long=long))
    yield Stretch("README: install", "\n".join(['python3 -m venv "$HOME/venv"', '. "$HOME/venv/bin/activate"', *install]))
    for number, block in enumerate(blocks_in(readme, "python"), 1):
        yield Stretch(f"README: program {number}", python(block.text))
    yield Stretch("README: the command", script(command, long=long))
    tutorial = python(program(blocks_in(PAGES["tutorial.md"], "python")))
    yield Stretch("docs/tutorial.md", tutorial)
    there = {"WFE_DATABASE_URL": url}
    for page, text in PAGES.items():
        if typed := session(blocks_in(text, "console"))[0]:
            yield Stretch(f"docs/{page}", script(typed, long=long), there)
    for path in sorted(ROOT.glob("examples/*/README.md")):
        typed, _ = session(blocks_in(path.read_text(), "console"))
        yield Stretch(str(path.relative_to(ROOT)), script(typed, long=long))


def script(typed: list[str], *, long: bool) -> str:
    """The commands as typed, without those that take minutes; those that have no end are ended after seconds."""
    left_out = NOT_HERE if long else NOT_HERE + LONG
    lines = (f"endless {line}" if ENDLESS.match(line) else line for line in typed if not line.startswith(left_out))
    return PRELUDE + "\n".join(lines)


def python(source: str) -> str:
    """The program, put into a file and run."""
    return f"cat > program.py <<'THE_END'\n{source}\nTHE_END\npython program.py"
