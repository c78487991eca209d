"""What the README shows is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_there_are_programs() -> None:
    """The pattern above finds the README's programs; it would be silent about a README without any."""
    assert len(PROGRAMS) == README.count("```python") >= 3


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, empty_database_url: str) -> None:
    """Each program runs by itself, on a database without a store, to its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"WFE_DATABASE_URL": empty_database_url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", README))))
def test_link(path: str) -> None:
    """Every link to a file leads to one."""
    assert (ROOT / path).exists()


def test_make_targets() -> None:
    """Every `make` command shown is a target."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
