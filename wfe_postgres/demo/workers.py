"""The worker processes of the demo: started, killed, frozen, thawed, sent home."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from wfe_postgres.demo.worker import Assignment, Report

TIMEOUT = 3.0
"""Seconds that a worker is given to end when its input is closed."""


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back, and for good from the processes started here: it is the demo that sends them home."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Crew:
    """Worker processes, which wait for their assignments.

    `reports` gives what they tell as it comes in; the last thing told of each is that it is `gone`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.reports: queue.Queue[Report] = queue.Queue()
        self._assigned = False
        with interrupts_blocked():
            self._processes = {name: self._start(name) for name in names}

    def _start(self, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wfe_postgres.demo.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()
        return process

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # a killed worker can leave half a line
                    self.reports.put(Report(**json.loads(line)))
        self.reports.put(Report(name, "gone"))

    def assign(self, url: str, schema: str, lease: float) -> None:
        """Let all of them begin, on this store; `lease` in seconds."""
        self._assigned = True
        for name, process in self._processes.items():
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(Assignment(name, url, schema, lease))) + "\n")
            process.stdin.flush()

    def kill(self, name: str) -> None:
        """End the worker with -9."""
        self._processes[name].kill()

    def freeze(self, name: str) -> None:
        """Stop the worker where it stands, as a machine that pauses would."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let the worker go on; it does not know that time has passed."""
        self._processes[name].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Send home whoever is still there, and wait until all have ended. Any number of times."""
        for name, process in self._processes.items():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            if self._assigned:
                self.thaw(name)
            else:
                self.kill(name)
        for process in self._processes.values():
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
