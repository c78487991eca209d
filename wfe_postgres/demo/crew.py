"""The worker processes of the demo, as the demo holds them: started, killed, frozen, thawed, sent home."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Self

from wfe_postgres.demo.worker import Assignment, Report

PATIENCE = 3.0
"""Seconds that a worker is given to end when its input is closed."""


class Crew:
    """Running workers. Their reports come out of `reports`, in the order in which they arrive; `gone` is the last of each."""

    def __init__(self, assignments: Iterable[Assignment]) -> None:
        self.reports: queue.Queue[Report] = queue.Queue()
        self._processes = {assignment.name: self._start(assignment) for assignment in assignments}

    def _start(self, assignment: Assignment) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wfe_postgres.demo.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(assignment)) + "\n")
        process.stdin.flush()
        threading.Thread(target=self._listen, args=(assignment.name, process), daemon=True).start()
        return process

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):  # a killed worker can leave half a line
                self.reports.put(Report(**json.loads(line)))
        self.reports.put(Report(name, "gone"))

    def kill(self, name: str) -> None:
        """End the worker as a crash or the kernel would: with -9."""
        self._processes[name].kill()

    def freeze(self, name: str) -> None:
        """Stop the worker where it stands, as a long pause of its machine would."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let the worker go on, none the wiser."""
        self._processes[name].send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        for name, process in self._processes.items():
            self.thaw(name)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
