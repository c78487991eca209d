"""The tutorial's host is built step by step, and says at each step what the page says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks, program

PAGE = "tutorial.md"
STEPS = blocks(PAGE, "python")
SHOWN = blocks(PAGE, "text")


def test_every_step_shows_what_it_prints() -> None:
    """Each block of Python is followed by its output."""
    assert [block.language for block in blocks(PAGE, "python", "text")] == ["python", "text"] * len(STEPS)
    assert len(STEPS) >= 5


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_step(step: int, empty_database_url: str, tmp_path: Path) -> None:
    """All blocks so far, in one file, as the reader has them."""
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


def test_the_private_server_of_the_tutorial(tmp_path: Path) -> None:
    """Without a database of the reader's own it starts one."""
    source = tmp_path / "orders.py"
    source.write_text(program(STEPS[:1]))
    environment = {name: value for name, value in os.environ.items() if name != "WFE_DATABASE_URL"}
    done = subprocess.run([sys.executable, source], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, SHOWN[0].text), done.stderr
