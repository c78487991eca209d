"""Processes that write until they are killed, and send a message after each call."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

Send = Callable[[Any], None]

TIMEOUT = 30.0


class Writer:
    """A forked process that runs `write(url, send)`; `received` has the messages received so far."""

    def __init__(self, write: Callable[[str, Send], None], url: str) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, child_end = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(write, url, child_end), daemon=True)
        self._process.start()
        child_end.close()
        self.received: list[Any] = []

    def receive(self) -> None:
        """Wait for a message; the long timeout is for busy machines."""
        assert self._pipe.poll(TIMEOUT), f"the writer sent no message in {TIMEOUT} seconds"
        self.received.append(self._pipe.recv())

    def kill(self) -> None:
        """Send SIGKILL and receive the remaining messages."""
        os.kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        while True:
            try:
                self.received.append(self._pipe.recv())
            except EOFError:
                break
        self._pipe.close()


@contextmanager
def writer(write: Callable[[str, Send], None], url: str) -> Iterator[Writer]:
    """Run a writer that is killed at the end of the block."""
    started = Writer(write, url)
    try:
        yield started
    finally:
        started.kill()


def _run(write: Callable[[str, Send], None], url: str, pipe: "Pipe[Any, Any]") -> None:
    write(url, pipe.send)
