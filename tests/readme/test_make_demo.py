"""`make demo` installs what the demo needs, and shows that it does."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"
  printf '#!/bin/sh\\necho the demo runs\\n' > "$3/bin/wfe-postgres"; chmod +x "$3/bin/wfe-postgres";;
"-m pip") echo "$@" >> pip.log; echo 'Collecting alembic>=1.14'; echo '  Using cached alembic.whl (200 kB)'
  echo 'Collecting psycopg[binary]>=3.2.3'; exit "${PIP_RESULT:-0}";;
esac
"""
"""A Python whose pip only prints."""

PROGRAMS = ("sh", "cp", "chmod", "mkdir", "rm", "touch")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the Makefile, and programs without uv."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "python3").write_text(PYTHON)
    (programs / "python3").chmod(0o755)
    return tmp_path


def make(directory: Path, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make without the variables of an outer make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= {"PATH": str(directory / "programs")} | variables
    command = [str(shutil.which("make")), target]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def test_demo_in_a_fresh_clone_installs_two_extras_and_names_the_packages(checkout: Path) -> None:
    done = make(checkout, "demo")
    assert done.stdout.splitlines() == [
        "Creating the virtual environment .venv",
        "Installing wfe-postgres",
        " alembic psycopg",
        "the demo runs",
    ]
    assert (checkout / "pip.log").read_text().endswith(" --editable .[cli,embedded]\n")
    assert make(checkout, "demo").stdout == "the demo runs\n"


def test_demo_in_a_complete_environment_installs_nothing(checkout: Path) -> None:
    make(checkout, ".venv/.made")
    assert make(checkout, "demo").stdout == "the demo runs\n"
    assert (checkout / "pip.log").read_text().count("\n") == 1


def test_tests_after_the_demo_install_the_development_tools(checkout: Path) -> None:
    make(checkout, "demo")
    make(checkout, ".venv/.made")
    assert (checkout / "pip.log").read_text().endswith(" --editable .[cli,embedded,dev]\n")


def test_a_failed_installation_is_an_error_and_is_repeated(checkout: Path) -> None:
    failed = make(checkout, "demo", PIP_RESULT="1")
    assert failed.returncode != 0
    assert "the demo runs" not in failed.stdout
    assert "the demo runs" in make(checkout, "demo").stdout
