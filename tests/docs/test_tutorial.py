"""The program of the tutorial prints the documented output at each step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Sql
from tests.docs.filled import fill
from tests.docs.pages import blocks, program

PAGE = "tutorial.md"
STEPS = blocks(PAGE, "python")
SHOWN = blocks(PAGE, "text")
REVISIONS = "SELECT id, revision FROM wfc.workflows ORDER BY id"


def test_every_step_shows_its_output() -> None:
    """Each Python block is followed by a block with its output."""
    assert [block.language for block in blocks(PAGE, "python", "text")] == ["python", "text"] * len(STEPS)
    assert len(STEPS) >= 5


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_step_prints_the_documented_output(step: int, empty_database_url: str, tmp_path: Path) -> None:
    """All blocks up to this step, in one file."""
    assert run(step, empty_database_url, tmp_path) == SHOWN[step - 1].text


def test_tutorial_on_a_database_in_use_prints_the_documented_output_each_time(
    empty_database_url: str, tmp_path: Path, sql: Sql
) -> None:
    """The third run follows one that was ended early; the application's store does not change."""
    fill(empty_database_url)
    before = sql(REVISIONS)
    for step in (len(STEPS), 2, len(STEPS)):
        assert run(step, empty_database_url, tmp_path) == SHOWN[step - 1].text
    assert sql(REVISIONS) == before


def run(step: int, url: str, directory: Path) -> str:
    """What the blocks up to this step print on the database at `url`."""
    source = directory / "orders.py"
    source.write_text(program(STEPS[:step]))
    done = subprocess.run(
        [sys.executable, "-W", "error", source],
        env=os.environ | {"WFE_DATABASE_URL": url},
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_tutorial_without_database_url_starts_a_server(tmp_path: Path) -> None:
    """Without WFE_DATABASE_URL the program starts an embedded server."""
    source = tmp_path / "orders.py"
    source.write_text(program(STEPS[:1]))
    environment = {name: value for name, value in os.environ.items() if name != "WFE_DATABASE_URL"}
    done = subprocess.run([sys.executable, source], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, SHOWN[0].text), done.stderr
