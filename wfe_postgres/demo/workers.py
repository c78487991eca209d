"""The worker processes of the demo: start, kill, pause, resume, stop."""

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
"""Seconds that a worker may take to exit after its input is closed."""


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT. Processes started in the block inherit the mask, so that only the demo stops them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """Worker processes that wait for their assignments.

    `reports` receives their reports; the last report of each worker is `exited`.
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
                if line.endswith("\n"):  # a killed worker can leave an incomplete line
                    self.reports.put(Report(**json.loads(line)))
        self.reports.put(Report(name, "exited"))

    def assign(self, url: str, schema: str, lease: float) -> None:
        """Start all workers on a store; `lease` in seconds."""
        self._assigned = True
        for name, process in self._processes.items():
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(Assignment(name, url, schema, lease))) + "\n")
            process.stdin.flush()

    def kill(self, name: str) -> None:
        """Kill the worker with SIGKILL."""
        self._processes[name].kill()

    def pause(self, name: str) -> None:
        """Stop the worker with SIGSTOP, like a machine that is suspended."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Resume the worker with SIGCONT."""
        self._processes[name].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the remaining workers and wait until all have exited. May be called repeatedly."""
        for name, process in self._processes.items():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            if self._assigned:
                self.resume(name)
            else:
                self.kill(name)
        for process in self._processes.values():
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
