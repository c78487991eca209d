"""`python -m tests.mutation [NAME ...]`: run the tests of each mutant without and with its defect."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
STARTUP = Path(__file__).with_name("startup")
TIMEOUT = 600  # seconds
SURVIVES = "SURVIVES"


def main(names: Sequence[str]) -> int:
    """Return 0 if all tests pass without a mutant, and at least one of its tests fails with each mutant."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    mutants = [MUTANTS[name] for name in names or MUTANTS]
    unmodified = _pytest(dict.fromkeys(test for mutant in mutants for test in mutant.tests), {})
    if unmodified.returncode != 0:
        console.print(unmodified.stdout + unmodified.stderr, "these tests fail without a mutant", markup=False)
        return 1
    table = Table("mutant", "defect", "detected by", "seconds", title="mutation tests")
    outcomes = []
    for mutant in mutants:
        started = time.monotonic()
        outcomes.append(_outcome(mutant))
        console.print(f"{mutant.name}: {outcomes[-1]}", markup=False)
        table.add_row(mutant.name, mutant.defect, escape(outcomes[-1]), f"{time.monotonic() - started:.0f}")
    console.print(table)
    return 1 if SURVIVES in outcomes else 0


def _outcome(mutant: Mutant) -> str:
    """The name of the first test that fails with the mutant, or why none does."""
    path = os.pathsep.join(filter(None, (str(STARTUP), os.environ.get("PYTHONPATH"))))
    mutated = _pytest(mutant.tests, {"WFE_MUTANT": mutant.name, "PYTHONPATH": path})
    if failed := re.search(r"^(?:FAILED|ERROR) .*?::(.+?)(?: - .*)?$", mutated.stdout, re.MULTILINE):
        return failed[1]
    skipped = re.search(r"^SKIPPED .*?: (.+)$", mutated.stdout, re.MULTILINE)
    return f"skipped: {skipped[1]}" if skipped else SURVIVES


def _pytest(tests: Iterable[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-x", "-rfEs", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=TIMEOUT
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
