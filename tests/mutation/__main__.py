"""`python -m tests.mutation [NAME ...]`: the tests of the mutants, healthy, then broken, and what turned red."""

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
    """0: the tests pass as the library is, and each mutant turns one of them red."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    mutants = [MUTANTS[name] for name in names or MUTANTS]
    healthy = _pytest(dict.fromkeys(test for mutant in mutants for test in mutant.tests), {})
    if healthy.returncode != 0:
        console.print(healthy.stdout + healthy.stderr, "the tests are not green to begin with", markup=False)
        return 1
    table = Table("mutant", "what is broken", "noticed by", "seconds", title="the library, broken on purpose")
    outcomes = []
    for mutant in mutants:
        began = time.monotonic()
        outcomes.append(_outcome(mutant))
        console.print(f"{mutant.name}: {outcomes[-1]}", markup=False)
        table.add_row(mutant.name, mutant.what, escape(outcomes[-1]), f"{time.monotonic() - began:.0f}")
    console.print(table)
    return 1 if SURVIVES in outcomes else 0


def _outcome(mutant: Mutant) -> str:
    """The first test that fails under the mutant, by its own name, or why none does."""
    path = os.pathsep.join(filter(None, (str(STARTUP), os.environ.get("PYTHONPATH"))))
    broken = _pytest(mutant.tests, {"WFE_MUTANT": mutant.name, "PYTHONPATH": path})
    if red := re.search(r"^(?:FAILED|ERROR) .*?::(.+?)(?: - .*)?$", broken.stdout, re.MULTILINE):
        return red[1]
    skipped = re.search(r"^SKIPPED .*?: (.+)$", broken.stdout, re.MULTILINE)
    return f"not tried: {skipped[1]}" if skipped else SURVIVES


def _pytest(tests: Iterable[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-x", "-rfEs", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=TIMEOUT
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
