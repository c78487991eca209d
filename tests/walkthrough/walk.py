"""The commands of the walkthrough, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.docs.pages import PAGES, ROOT, blocks_in, program, session

ENDLESS = (
    "make docs",
    "python examples/exporter.py",
    "wfe-postgres work ",
    ".venv/bin/python -m examples.",
    ".venv/bin/gunicorn",
    ".venv/bin/python -m django wfe_work",
    ".venv/bin/flask wfe work",
)
"""Prefixes of commands that run until Ctrl-C."""

LONG = ("make test", "make bench", "make check")
"""Prefixes of commands that take minutes."""

ELSEWHERE = ("how-to/django.md", "how-to/flask.md")
"""Pages whose commands tests/docs runs, in an environment with the packages that they need."""

PRELUDE = """
endless() {  # must still be running after 10 seconds, and end after SIGINT
  timeout --signal=INT --kill-after=20 10 "$@" || [ $? = 124 ]
}
"""

INSTALL = ['python3 -m venv "$HOME/venv"', '. "$HOME/venv/bin/activate"']


@dataclass(frozen=True)
class Section:
    """A part of the walkthrough: its name, its script, and the environment variables that it needs."""

    name: str
    script: str
    variables: dict[str, str] = field(default_factory=dict)


def walk(url: str, *, long: bool) -> Iterator[Section]:
    """The README, then docs/, then the example shops; `url` is the database for the pages of docs/."""
    readme = (ROOT / "README.md").read_text()
    demo, install, command = (session([block])[0] for block in blocks_in(readme, "console"))
    yield Section("README: try it", script(demo, long=long))
    yield Section("README: install", script(INSTALL + install, long=long))
    for number, block in enumerate(blocks_in(readme, "python"), 1):
        yield Section(f"README: program {number}", python(block.text))
    yield Section("README: the command", script(command, long=long))
    for page in ("tutorial.md", "how-to/write-a-host.md"):
        yield Section(f"docs/{page}", python(program(blocks_in(PAGES[page], "python"))))
    for page, text in PAGES.items():
        if page not in ELSEWHERE and (typed := session(blocks_in(text, "console"))[0]):
            module = write("shop.py", text) if page == "how-to/worker.md" else ""
            yield Section(f"docs/{page}", module + script(typed, long=long), {"WFE_DATABASE_URL": url})
    for path in sorted(ROOT.glob("examples/*/README.md")):
        typed, _ = session(blocks_in(path.read_text(), "console"))
        yield Section(str(path.relative_to(ROOT)), script(typed, long=long))


def script(typed: list[str], *, long: bool) -> str:
    """The script of these commands; long ones only if `long`, and endless ones are interrupted after 10 seconds."""
    lines = (f"endless {line}" if line.startswith(ENDLESS) else line for line in typed)
    return PRELUDE + "\n".join(line for line in lines if long or not line.startswith(LONG))


def python(source: str) -> str:
    """A script that writes the program to a file and runs it."""
    return f"cat > program.py <<'THE_END'\n{source}\nTHE_END\npython program.py"


def write(name: str, page: str) -> str:
    """A script that writes the Python blocks of the page to a file."""
    return f"cat > {name} <<'THE_END'\n{program(blocks_in(page, 'python'))}\nTHE_END\n"
