"""Subprocesses that start an embedded server, and are terminated in different ways."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

ROOT = Path(__file__).parents[2]

linux_only = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")

# A program that starts a server, prints its address, and then runs `body`.
PROGRAM = """
import multiprocessing, os, signal, sys, time
from wfe_postgres.embedded import EmbeddedPostgres

def main():
    with EmbeddedPostgres() as server:
        print(server.directory, (server.directory / "data/postmaster.pid").read_text().split()[0])
        print(server.url, flush=True)
        {body}

if __name__ == "__main__":
    main()
"""
WAIT = "sys.stdin.read()"


@contextmanager
def running(body: str = WAIT, python: str = sys.executable, **options: Any) -> Iterator["Program"]:
    """Start the program and wait for its server; kill the program at the end."""
    command = [python, "-c", PROGRAM.format(body=body)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


class Program:
    """A running program, and the server that it started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        directory, pid = self.read().split()
        self.directory = Path(directory)
        self.postmaster = int(pid)
        self.url = self.read()

    def read(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, "the program ended unexpectedly"
        return line

    def close_stdin(self) -> None:
        """Let the program continue by closing its standard input."""
        assert self.process.stdin
        self.process.stdin.close()

    def is_serving(self) -> bool:
        return fetch(self.url, "SELECT 1") == [(1,)]

    def is_gone(self) -> bool:
        """Whether the server has ended and its directory is removed."""
        return not self.directory.exists() and not is_alive(self.postmaster)


def fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def is_alive(pid: int) -> bool:
    """Whether the process is running; zombies are not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_supervisor_of(program: Program) -> None:
    """Kill the supervisor of the program: its child process that is not the server."""
    (supervisor,) = set(children_of(program.process.pid)) - {program.postmaster}
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not is_alive(supervisor))
