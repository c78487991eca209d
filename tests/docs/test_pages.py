"""The code and commands in the documentation run, and the names in it exist."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Sql
from tests.docs.filled import fill
from tests.docs.pages import PAGES, ROOT, SNIPPET, blocks, pages_with, program, session
from wfe_postgres.cli import app
from wfe_postgres.embedded import find_binaries

TESTED_SEPARATELY = {
    "tutorial.md",
    "how-to/django.md",
    "how-to/flask.md",
    "how-to/rq.md",
    "how-to/worker.md",
    "how-to/write-a-host.md",
    "operations.md",
}
"""Pages with separate tests, which also check the output of their programs."""

APPLICATIONS = {"how-to/one-transaction.md", "how-to/orm.md"}
"""Pages whose programs create an application's tables and rows, and so run on an empty database only."""

NOT_RUN = (
    "docker ",
    "make ",
    "pip ",
    "python examples/",
    "wfe-postgres work ",
    "flask ",
    "django-admin ",
    "python manage.py ",
    "curl ",
    "export ",
)
"""Prefixes of commands that are not run here. The examples, and the pages on workers and Flask, have separate tests."""

DATABASE_EXISTS = "SELECT FROM pg_database WHERE datname = %s"

FORK_WARNING = "ignore:This process:DeprecationWarning"

BUILD = ("build", "--strict", "-f", ".mkdocs.yml", "-d")
"""Without `--quiet`, because it suppresses the warnings that `--strict` counts."""

TOO_NEW = "server version mismatch"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A writable directory with links to everything in the root of the repository."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def run(command: list[str], url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with the tools of the environment and PostgreSQL on PATH, connected to the database at `url`."""
    tools = [str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]]
    environment = os.environ | {"WFE_DATABASE_URL": url, "PATH": os.pathsep.join(tools)} | libpq_variables(url)
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)


def libpq_variables(url: str) -> dict[str, str]:
    """libpq variables for the server and user of the URL, for commands that only name a database."""
    address = conninfo_to_dict(url)
    return {f"PG{key.upper()}": str(address[key]) for key in ("host", "port", "user", "password") if address.get(key)}


@pytest.mark.parametrize("page", sorted({*pages_with("python")} - TESTED_SEPARATELY))
def test_python_blocks_of_page_run(page: str, empty_database_url: str, checkout: Path) -> None:
    """All blocks of the page form one program, which runs on an empty database."""
    source = checkout / "page.py"
    source.write_text(program(blocks(page, "python")))
    done = run([sys.executable, "-W", "error", "-W", FORK_WARNING, str(source)], empty_database_url, checkout)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted({*pages_with("python")} - TESTED_SEPARATELY - APPLICATIONS))
def test_python_blocks_of_page_run_twice_on_a_database_in_use(
    page: str, empty_database_url: str, checkout: Path
) -> None:
    """Beside an application's tables and workflows, and after an earlier run."""
    fill(empty_database_url)
    source = checkout / "page.py"
    source.write_text(program(blocks(page, "python")))
    for _ in range(2):
        done = run([sys.executable, "-W", "error", "-W", FORK_WARNING, str(source)], empty_database_url, checkout)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages_with("console"))
def test_commands_of_page_run_with_the_shown_output(page: str, database_url: str, sql: Sql, checkout: Path) -> None:
    """All commands run in one shell session on a migrated database; the shown output must appear in this order."""
    typed, shown = session(blocks(page, "console"))
    script = "\n".join(line for line in typed if not line.startswith(NOT_RUN))
    made = [name for name in re.findall(r"createdb (\w+)", script) if not sql(DATABASE_EXISTS, [name])]
    try:
        done = run(["bash", "-euo", "pipefail", "-c", script], database_url, checkout)
    finally:
        for name in made:
            sql(f"DROP DATABASE IF EXISTS {name}")
    if TOO_NEW in done.stderr:
        pytest.skip("pg_dump is older than the server")
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    for line in shown:
        assert line == "..." or line in lines, f"{line!r} is missing or out of order:\n{done.stdout}"


def test_other_blocks_contain_no_untested_python() -> None:
    """`py` blocks contain only snippets of tested examples; all other Python is in `python` blocks."""
    for page in PAGES:
        for block in blocks(page, "py", "sql"):
            for path in SNIPPET.findall(block.text):
                assert (ROOT / path).exists(), f"{page}: {path}"
        for block in blocks(page, "py"):
            assert SNIPPET.fullmatch(block.text.strip()), f"{page}, line {block.line}"
        assert not blocks(page, ""), f"{page}: a block without a language"


@pytest.mark.parametrize("page", PAGES)
def test_paths_named_in_page_exist(page: str) -> None:
    named = re.findall(r"`((?:tests|examples|wfe_postgres|migrations|benchmarks|docs)/[\w/.-]+)", PAGES[page])
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_named_in_page_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", PAGES[page]):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_named_in_page_exist(page: str) -> None:
    """Also where a command is only mentioned and not run."""
    commands = vars(typer.main.get_command(app))["commands"]
    for name, rest in re.findall(r"(?:`|\$ )wfe-postgres ([a-z-]+)([^`\n]*)", PAGES[page]):
        assert name in commands, name
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r" (--[a-z-]+)", rest)) <= options, rest


@pytest.mark.parametrize("name", ["wfe_postgres", "wfe_postgres.host", "wfe_postgres.services", "wfe_postgres.testing"])
def test_reference_lists_every_public_name(name: str) -> None:
    """The reference page lists exactly the names in `__all__` of the module, each of them once."""
    described = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", PAGES["reference.md"], re.MULTILINE)
    assert sorted(described) == sorted(import_module(name).__all__)


def test_glossary_is_sorted_and_uses_names_of_the_library() -> None:
    rows = re.findall(r"^\| (\w.+?) \| (.+) \|$", PAGES["glossary.md"], re.MULTILINE)[1:]
    assert [term for term, _ in rows] == sorted(term for term, _ in rows)
    sources = "".join(path.read_text() for path in ROOT.joinpath("wfe_postgres").rglob("*.py"))
    names = {name for _, meaning in rows for name in re.findall(r"`(?:\w+\.)?(\w+)[`(]", meaning)}
    assert len(names) > 20
    assert {name for name in names if not re.search(rf"\b{name}\b", sources)} == set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The directory of the built site, and the result of the build."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", *BUILD, str(directory)]
    return directory, subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_site_builds_without_warnings(site: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """All links and anchors are valid, and every page is in the navigation."""
    directory, done = site
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((directory / page).with_suffix(".html").exists() for page in PAGES)


def test_site_loads_no_external_resources(site: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """The site loads no external fonts, scripts or images."""
    directory, _ = site
    pages = list(directory.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for path in pages:
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]* src="?https?:|<link[^>]*stylesheet[^>]*https?:', path.read_text()
        )
        assert fetched == [], path.name
