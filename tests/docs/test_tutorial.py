"""The program of the tutorial prints the documented output at each step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks, program

PAGE = "tutorial.md"
STEPS = blocks(PAGE, "python")
SHOWN = blocks(PAGE, "text")


def test_every_step_shows_its_output() -> None:
    """Each Python block is followed by a block with its output."""
    assert [block.language for block in blocks(PAGE, "python", "text")] == ["python", "text"] * len(STEPS)
    assert len(STEPS) >= 5


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_step_prints_the_documented_output(step: int, empty_database_url: str, tmp_path: Path) -> None:
    """All blocks up to this step, in one file."""
    source = tmp_path / "orders.py"
    source.write_text(program(STEPS[:step]))
    done = subprocess.run(
        [sys.executable, "-W", "error", source],
        env=os.environ | {"WFE_DATABASE_URL": empty_database_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == SHOWN[step - 1].text


def test_tutorial_without_database_url_starts_a_server(tmp_path: Path) -> None:
    """Without WFE_DATABASE_URL the program starts an embedded server."""
    source = tmp_path / "orders.py"
    source.write_text(program(STEPS[:1]))
    environment = {name: value for name, value in os.environ.items() if name != "WFE_DATABASE_URL"}
    done = subprocess.run([sys.executable, source], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, SHOWN[0].text), done.stderr
