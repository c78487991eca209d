"""The programs of the tutorial, and of the page on writing a host, print the documented output at each step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Sql
from tests.docs.filled import fill
from tests.docs.pages import blocks, program

STEPWISE = ["tutorial.md", "how-to/write-a-host.md"]
STEPS = {page: blocks(page, "python") for page in STEPWISE}
SHOWN = {page: blocks(page, "text") for page in STEPWISE}
NUMBERS = {page: range(1, len(STEPS[page]) + 1) for page in STEPWISE}
REVISIONS = "SELECT id, revision FROM wfc.workflows ORDER BY id"


@pytest.mark.parametrize("page", STEPWISE)
def test_every_step_shows_its_output(page: str) -> None:
    """Each Python block is followed by a block with its output."""
    assert [block.language for block in blocks(page, "python", "text")] == ["python", "text"] * len(STEPS[page])
    assert len(STEPS[page]) >= 5


@pytest.mark.parametrize(("page", "step"), [(page, step) for page in STEPWISE for step in NUMBERS[page]])
def test_step_prints_the_documented_output(page: str, step: int, empty_database_url: str, tmp_path: Path) -> None:
    """All blocks up to this step, in one file."""
    assert run(page, step, empty_database_url, tmp_path) == SHOWN[page][step - 1].text


@pytest.mark.parametrize("page", STEPWISE)
def test_program_on_a_database_in_use_prints_the_documented_output_each_time(
    page: str, empty_database_url: str, tmp_path: Path, sql: Sql
) -> None:
    """The third run follows one that was ended early; the application's store does not change."""
    fill(empty_database_url)
    before = sql(REVISIONS)
    for step in (len(STEPS[page]), 2, len(STEPS[page])):
        assert run(page, step, empty_database_url, tmp_path) == SHOWN[page][step - 1].text
    assert sql(REVISIONS) == before


def run(page: str, step: int, url: str, directory: Path) -> str:
    """What the blocks up to this step print on the database at `url`."""
    source = directory / "orders.py"
    source.write_text(program(STEPS[page][:step]))
    done = subprocess.run(
        [sys.executable, "-W", "error", source],
        env=os.environ | {"WFE_DATABASE_URL": url},
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("page", STEPWISE)
def test_program_without_database_url_starts_a_server(page: str, tmp_path: Path) -> None:
    """Without WFE_DATABASE_URL the program starts an embedded server."""
    source = tmp_path / "orders.py"
    source.write_text(program(STEPS[page][:1]))
    environment = {name: value for name, value in os.environ.items() if name != "WFE_DATABASE_URL"}
    done = subprocess.run([sys.executable, source], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, SHOWN[page][0].text), done.stderr
