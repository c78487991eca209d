"""Processes that write until they are killed, and tell of each call after it returned."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

Tell = Callable[[Any], None]

TIMEOUT = 30.0


class Writer:
    """A forked process that runs `write(url, tell)`; `told` is what it has told of so far."""

    def __init__(self, write: Callable[[str, Tell], None], url: str) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, far = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(write, url, far), daemon=True)
        self._process.start()
        far.close()
        self.told: list[Any] = []

    def hear(self) -> None:
        """Wait until it tells of a call; it may come late on a machine that has much to do."""
        assert self._pipe.poll(TIMEOUT), f"it has told nothing in {TIMEOUT} seconds"
        self.told.append(self._pipe.recv())

    def kill(self) -> None:
        """Kill -9, and hear what it had still to say."""
        os.kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        while True:
            try:
                self.told.append(self._pipe.recv())
            except EOFError:
                break
        self._pipe.close()


@contextmanager
def writer(write: Callable[[str, Tell], None], url: str) -> Iterator[Writer]:
    """A writer that is dead after the block."""
    started = Writer(write, url)
    try:
        yield started
    finally:
        started.kill()


def _run(write: Callable[[str, Tell], None], url: str, pipe: "Pipe[Any, Any]") -> None:
    write(url, pipe.send)
