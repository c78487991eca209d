"""`python -m tests.mutants [NAME ...]`: runs each mutant's tests, healthy and broken, and says what turned red."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).with_name("site")
PATIENCE = 240


def main(names: Sequence[str]) -> int:
    """0: every mutant was noticed, by tests that pass without it."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    table = Table("mutant", "what is broken", "noticed by", "seconds", title="the library, broken on purpose")
    survivors = 0
    for mutant in map(MUTANTS.__getitem__, names or MUTANTS):
        began = time.monotonic()
        red = _red(mutant)
        survivors += red is None
        console.print(f"{mutant.name}: {red or 'SURVIVES'}", highlight=False)
        table.add_row(mutant.name, mutant.what, red or "[red]nothing", f"{time.monotonic() - began:.0f}")
    console.print(table)
    return 1 if survivors else 0


def _red(mutant: Mutant) -> str | None:
    """The first test that fails under the mutant and passes without it."""
    broken = _pytest(mutant.tests, {"WFE_MUTANT": mutant.name, "PYTHONPATH": str(SITE)})
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", broken.stdout, re.MULTILINE)
    if found is None:
        return None
    return found[1] if _pytest([found[1]], {}).returncode == 0 else None


def _pytest(arguments: Sequence[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
