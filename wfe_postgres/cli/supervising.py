"""`work --processes`: starts processes that run a host, replaces those that end, and stops all of them."""

import logging
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

LOG = logging.getLogger("wfe_postgres.work")

_LOOK = 0.1
_SOON = 10.0
"""A process that ends before it was ready for so many seconds is replaced after a pause."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Child:
    """A process that runs a host. At the end of the channel, when this process has ended, it stops."""

    def __init__(self, command: Sequence[str]) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            # In a group of its own: Ctrl-C in a terminal is passed on by this process alone.
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [*command, "--supervisor", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._ready: float | None = None

    def is_running(self) -> bool:
        """Whether it has not ended. Notices when it has become ready."""
        is_running = self.process.poll() is None
        if self._ready is None:
            with suppress(BlockingIOError, ConnectionResetError):
                self._ready = time.monotonic() if self._channel.recv(1) else None
        return is_running

    @property
    def is_ready(self) -> bool:
        """Whether it has found the host and the store."""
        return self._ready is not None

    @property
    def has_worked(self) -> bool:
        """Whether it has been ready for a while."""
        return self._ready is not None and time.monotonic() - self._ready > _SOON

    @property
    def end(self) -> str:
        """How it has ended, in words."""
        code = self.process.returncode
        return f"has ended with exit code {code}" if code >= 0 else f"was ended by {_name_of(-code)}"

    def close(self) -> None:
        """Release the channel."""
        self._channel.close()


@dataclass
class Place:
    """One of the N processes: the one that runs, or when the next is started."""

    child: Child | None = None
    start: float = 0.0
    pause: float = field(default=0.0)


class Supervisor:
    """Keeps so many processes running until a signal: of the command, with `--supervisor` and a file descriptor."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._places = [Place() for _ in range(count)]
        self._signals: list[int] = []

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit code.

        The first process is started alone. If it ends before it is ready, so would the others: its exit code is
        returned, after its own error message.
        """
        before = {
            number: signal.signal(number, lambda number, _: self._signals.append(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            first = self._places[0].child = Child(self._command)
            while first.is_running() and not (first.is_ready or self._signals):
                time.sleep(_LOOK)
            if not (first.is_ready or first.is_running() or self._signals):
                return self._fail(first)
            while not self._signals:
                for place in self._places:
                    self._keep(place)
                time.sleep(_LOOK)
            return self._stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _fail(self, first: Child) -> int:
        code = first.process.returncode
        if code >= 0:
            return code  # it has said why
        LOG.error("process %d %s before it was ready", first.process.pid, first.end)
        return 128 - code

    def _keep(self, place: Place) -> None:
        """Start a process where there is none."""
        if place.child is not None and not place.child.is_running():
            child, place.child = place.child, None
            place.pause = 0.0 if child.has_worked else min(2 * place.pause or _FIRST_PAUSE, _LONGEST_PAUSE)
            child.close()
            place.start = time.monotonic() + place.pause
            LOG.error("process %d %s; it is replaced in %g s", child.process.pid, child.end, place.pause)
        if place.child is None and time.monotonic() >= place.start:
            place.child = Child(self._command)

    def _stop(self) -> int:
        """Stop the processes, and wait for them; a second signal ends them at once."""
        LOG.info("stopping: %s", _name_of(self._signals[0]))
        children = [place.child for place in self._places if place.child is not None]
        for child in children:
            child.process.terminate()
        while any(child.is_running() for child in children):
            if len(self._signals) > 1:
                for child in children:
                    child.process.kill()
                    child.process.wait()
                return 128 + self._signals[1]
            time.sleep(_LOOK)
        for child in children:
            if child.process.returncode not in (0, -signal.SIGTERM):
                LOG.error("process %d %s", child.process.pid, child.end)
        LOG.info("all processes have stopped")
        return 0


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
