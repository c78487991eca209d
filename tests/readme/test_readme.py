"""The programs, links and commands in the README work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.filled import fill

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FIRST, OUTPUT = re.findall(r"^```(?:python|text)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[:2]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_pattern_finds_every_program() -> None:
    """Guards against a pattern that matches nothing."""
    assert len(PROGRAMS) == README.count("```python") >= 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs_on_empty_database(program: str, empty_database_url: str) -> None:
    """Each program runs successfully on an empty database."""
    run(program, empty_database_url)


def test_programs_run_twice_on_a_database_in_use(empty_database_url: str) -> None:
    """One program after the other, then all of them again, beside an application's tables and workflows."""
    fill(empty_database_url)
    for program in PROGRAMS * 2:
        run(program, empty_database_url)


def test_first_program_prints_the_shown_output_each_time(empty_database_url: str) -> None:
    fill(empty_database_url)
    assert [run(FIRST, empty_database_url) for _ in range(2)] == [OUTPUT, OUTPUT]


def test_first_screen_is_a_short_program() -> None:
    assert FIRST == PROGRAMS[0]
    assert README.index(OUTPUT) < README.index("\n## ")
    assert len([line for line in FIRST.splitlines() if line and not line.startswith(("from ", "#"))]) <= 17


def run(program: str, url: str) -> str:
    """Run the program with this `WFE_DATABASE_URL`; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"WFE_DATABASE_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", README))))
def test_linked_file_exists(path: str) -> None:
    """Every relative link refers to an existing file."""
    assert (ROOT / path).exists()


def test_make_targets_exist() -> None:
    """Every `make` command in the README is a target."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
