"""Each example runs as its first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTPUT = {
    "one_transaction.py": [
        "before the commit: 0 order and 0 workflow in the database",
        "after the commit: 1 order and 1 workflow in the database",
        "after a rollback: 0 order and 0 workflow in the database",
    ]
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        *OUTPUT,
        "exporter.py",
        "valkey_locks.py",
    }  # these have tests of their own


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_does_what_it_shows(name: str, empty_database_url: str) -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLES / name],
        env=os.environ | {"WFE_DATABASE_URL": empty_database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == OUTPUT[name]
