"""An application for `work`, and the command in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.host_faults.kit.effects import TIMEOUT, eventually

ROOT = Path(__file__).parents[2]
SHOP = """
import os
import time
from pathlib import Path

from tests.host_faults.kit.effects import connect, note, wait_at
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import Suspend, WorkflowBuilder, WorkflowHost

if Path("broken").exists():
    import nothing_of_this_name


def work(context):
    note(context, "begin")
    time.sleep(0.05)
    note(context, "end")


def stuck(context):
    note(context, "begin")
    wait_at("gate")
    note(context, "end")


def fail(context):
    raise RuntimeError("the shelf is empty")


order = WorkflowBuilder("order", 2).start_with(work).then(work).then(work).build()
gate = WorkflowBuilder("gate").start_with(stuck).build()
broken = WorkflowBuilder("broken").start_with(fail, on_error=Suspend()).build()
provider = PostgresPersistenceProvider(os.environ["SHOP_URL"])


def make_host():
    connect(os.environ["SHOP_URL"])
    return WorkflowHost(provider, [order, gate, broken], poll_interval=0.05, lease=float(os.environ["LEASE"]))
"""
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\d+) ([A-Z]+) (wfe_postgres\.\w+): (.*)")


class WorkProcess:
    """The command `work`, run by a process."""

    def __init__(self, folder: Path, url: str, *arguments: str, lease: float = 600.0) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wfe_postgres", "work", *arguments],
                cwd=folder,
                env={**os.environ, "SHOP_URL": url, "LEASE": str(lease), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """Everything that was written so far."""
        return self._log.read_text()

    def lines(self, level: str = "INFO") -> list[str]:
        """The messages of this level."""
        return [found[4] for found in map(LINE.fullmatch, self.log.splitlines()) if found and found[2] == level]

    @property
    def starts(self) -> list[int]:
        """The processes that have started a host, in their order."""
        return [int(it) for it in re.findall(r"process (\d+) starts with", self.log)]

    def wait_for_starts(self, number: int) -> list[int]:
        """Wait until so many processes have started a host."""
        eventually(lambda: len(self.starts) >= number, found=lambda: self.log)
        return self.starts

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)
