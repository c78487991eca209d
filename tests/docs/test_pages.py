"""What the documentation shows is run as it stands there, and what it names exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from psycopg.conninfo import conninfo_to_dict

import wfe_postgres
from tests.conftest import Sql
from tests.docs.pages import PAGES, ROOT, SNIPPET, blocks, pages_with, program, session
from wfe_postgres.cli import app
from wfe_postgres.embedded import find_binaries

ELSEWHERE = {"tutorial.md", "operations.md"}
"""Pages whose Python is run by tests of their own, which also look at what it prints."""

NOT_RUN = ("docker ", "make ", "pip ", "python examples/")
"""How a command begins that only the reader runs. The examples have tests of their own."""

IS_THERE = "SELECT FROM pg_database WHERE datname = %s"

FORK_WARNING = "ignore:This process:DeprecationWarning"

BUILD = ("build", "--strict", "-f", ".mkdocs.yml", "-d")
"""Without `--quiet`: then no warning is counted, and strictness means nothing."""

TOO_NEW = "server version mismatch"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory that has what the repository's root has, and takes what the commands write."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def run(command: list[str], url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run it with the tools of the environment and of the embedded server, which are told where the server is."""
    tools = [str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]]
    environment = os.environ | {"WFE_DATABASE_URL": url, "PATH": os.pathsep.join(tools)} | libpq_variables(url)
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)


def libpq_variables(url: str) -> dict[str, str]:
    """The server and the user of the URL, for commands that are given the name of a database alone."""
    address = conninfo_to_dict(url)
    return {f"PG{key.upper()}": str(address[key]) for key in ("host", "port", "user", "password") if address.get(key)}


@pytest.mark.parametrize("page", sorted({*pages_with("python")} - ELSEWHERE))
def test_the_python_of_a_page_runs(page: str, empty_database_url: str, checkout: Path) -> None:
    """Its blocks are one program, from top to bottom, on a database without a store."""
    source = checkout / "page.py"
    source.write_text(program(blocks(page, "python")))
    done = run([sys.executable, "-W", "error", "-W", FORK_WARNING, str(source)], empty_database_url, checkout)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages_with("console"))
def test_the_commands_of_a_page_run(page: str, database_url: str, sql: Sql, checkout: Path) -> None:
    """They are one session in a shell, on a database with a store; what is shown of their output comes."""
    typed, shown = session(blocks(page, "console"))
    script = "\n".join(line for line in typed if not line.startswith(NOT_RUN))
    made = [name for name in re.findall(r"createdb (\w+)", script) if not sql(IS_THERE, [name])]
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
        assert line == "..." or line in lines, f"{line!r} does not come, or not in this order:\n{done.stdout}"


def test_a_block_in_any_other_language_is_not_python() -> None:
    """Python that a page takes from an example is run by the example's test; all other stands in `python`."""
    for page in PAGES:
        for block in blocks(page, "py", "sql"):
            for path in SNIPPET.findall(block.text):
                assert (ROOT / path).exists(), f"{page}: {path}"
        for block in blocks(page, "py"):
            assert SNIPPET.fullmatch(block.text.strip()), f"{page}, line {block.line}"
        assert not blocks(page, ""), f"{page}: a block without a language"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`((?:tests|examples|wfe_postgres|migrations|benchmarks|docs)/[\w/.-]+)", PAGES[page])
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", PAGES[page]):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_exists(page: str) -> None:
    """With its options, also where it is named in passing and not run."""
    commands = vars(typer.main.get_command(app))["commands"]
    for name, rest in re.findall(r"(?:`|\$ )wfe-postgres ([a-z-]+)([^`\n]*)", PAGES[page]):
        assert name in commands, name
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r" (--[a-z-]+)", rest)) <= options, rest


def test_the_reference_has_every_public_name() -> None:
    """A name that is added to the package is added to the page."""
    described = re.findall(r"^::: wfe_postgres\.(\w+)$", PAGES["reference.md"], re.MULTILINE)
    assert sorted(described) == sorted(wfe_postgres.__all__)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The site, and how building it went."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", *BUILD, str(directory)]
    return directory, subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_site_is_built_without_a_warning(site: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Every link and every anchor leads somewhere, every page is in the navigation."""
    directory, done = site
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((directory / page).with_suffix(".html").exists() for page in PAGES)


def test_the_site_fetches_nothing(site: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Neither fonts nor scripts: it can be read from a file, behind any firewall."""
    directory, _ = site
    pages = list(directory.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for path in pages:
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]* src="?https?:|<link[^>]*stylesheet[^>]*https?:', path.read_text()
        )
        assert fetched == [], path.name
