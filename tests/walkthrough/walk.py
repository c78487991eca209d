"""What is typed, where, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.docs.pages import PAGES, ROOT, blocks_in, program, session

ENDLESS = (
    "make docs",
    "python examples/exporter.py",
    ".venv/bin/python -m examples.",
    ".venv/bin/gunicorn",
    ".venv/bin/python -m django work",
    ".venv/bin/flask --app examples.flask_shop.app work",
)
"""How a command begins that runs until Ctrl-C."""

LONG = ("make test", "make bench", "make check")
"""How a command begins that takes minutes."""

PRELUDE = """
endless() {  # it is still there when it is interrupted, and then ends by itself
  timeout --signal=INT --kill-after=20 10 "$@" || [ $? = 124 ]
}
"""

INSTALL = ['python3 -m venv "$HOME/venv"', '. "$HOME/venv/bin/activate"']


@dataclass(frozen=True)
class Stretch:
    """A part of the walk: what it is called, the script that is typed, the variables that the text takes for set."""

    name: str
    script: str
    variables: dict[str, str] = field(default_factory=dict)


def walk(url: str, *, long: bool) -> Iterator[Stretch]:
    """README from top to bottom, then docs/, then the shops; `url`: the database that the pages speak of."""
    readme = (ROOT / "README.md").read_text()
    demo, install, command = (session([block])[0] for block in blocks_in(readme, "console"))
    yield Stretch("README: try it", script(demo, long=long))
    yield Stretch("README: install", script(INSTALL + install, long=long))
    for number, block in enumerate(blocks_in(readme, "python"), 1):
        yield Stretch(f"README: program {number}", python(block.text))
    yield Stretch("README: the command", script(command, long=long))
    yield Stretch("docs/tutorial.md", python(program(blocks_in(PAGES["tutorial.md"], "python"))))
    for page, text in PAGES.items():
        if typed := session(blocks_in(text, "console"))[0]:
            yield Stretch(f"docs/{page}", script(typed, long=long), {"WFE_DATABASE_URL": url})
    for path in sorted(ROOT.glob("examples/*/README.md")):
        typed, _ = session(blocks_in(path.read_text(), "console"))
        yield Stretch(str(path.relative_to(ROOT)), script(typed, long=long))


def script(typed: list[str], *, long: bool) -> str:
    """The commands as typed, unless they take minutes; those that have no end are ended after seconds."""
    lines = (f"endless {line}" if line.startswith(ENDLESS) else line for line in typed)
    return PRELUDE + "\n".join(line for line in lines if long or not line.startswith(LONG))


def python(source: str) -> str:
    """The program, put into a file and run."""
    return f"cat > program.py <<'THE_END'\n{source}\nTHE_END\npython program.py"
