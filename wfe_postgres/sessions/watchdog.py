"""An end for every call, whatever the network does: at its deadline it is cancelled, then its socket is shut.

Keepalives and `tcp_user_timeout` do not help against a peer that acknowledges and never answers; a second thread
that shuts the socket does. The thread starts with the first watched call and sleeps until the earliest deadline.
"""

import heapq
import itertools
import math
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import Connection

from wfe_postgres.sessions.sockets import driver_connection, shut

_GRACE = 0.5  # seconds between the cancellation and the end of the socket


class Watch:
    """A block in which a connection is watched, from when it is handed in to the end.

    It begins before there is a connection, so that it ends after the connection's own block: that is where the
    transaction is committed. It ends at the latest with this object, which an exception of a signal handler's in
    `__exit__` does not outlive: otherwise a later call on that connection would be ended.
    """

    _is_watching = False

    def __init__(self, watchdog: "Watchdog", deadline: float | None, number: int) -> None:
        self._watchdog = watchdog
        self._deadline = deadline
        self._number = number

    def __enter__(self) -> "Watch":
        return self

    def over(self, connection: Connection) -> None:
        """Watch this connection."""
        deadline = self._watchdog.deadline() if self._deadline is None else self._deadline
        self._is_watching = True
        self._watchdog.begin(self._number, connection, deadline)

    def __exit__(self, *_: object) -> None:
        self._watchdog.end(self._number)
        self._is_watching = False

    def __del__(self) -> None:
        if self._is_watching:
            self._watchdog.end(self._number)


class Watchdog:
    """Watches calls that may take `timeout` seconds each; `None` watches nothing."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._closed = False
        self._reset()
        reference = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (reset := reference()) and reset())

    def _reset(self) -> None:
        # What calls come by is the lock, not the condition: a signal handler's exception cannot leave that locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._numbers = itertools.count()
        self._watched: dict[int, psycopg.Connection[Any]] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._thread: threading.Thread | None = None

    def deadline(self) -> float:
        """When a call that begins now must have ended, by the monotonic clock."""
        return math.inf if self._timeout is None else time.monotonic() + self._timeout

    def watch(self, deadline: float | None = None) -> "Watch":
        """A block whose connection, once it is known, is ended at the deadline, or `timeout` after it is known."""
        return Watch(self, deadline, next(self._numbers))

    def begin(self, number: int, connection: Connection, deadline: float) -> None:
        """Watch the connection from now on, until `end` is called with the number."""
        if self._timeout is not None:
            self._watched[number] = driver_connection(connection)
            self._add(deadline, number)

    def end(self, number: int) -> None:
        """The call came to its end by itself. Any number of times."""
        self._watched.pop(number, None)

    def close(self) -> None:
        """Let the thread end, as soon as it has nobody to watch."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _add(self, deadline: float, number: int) -> None:
        with self._lock:
            heapq.heappush(self._deadlines, (deadline, number))
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="wfe_postgres-watchdog", daemon=True)
                thread.start()
                self._thread = thread  # interrupted before this line there will be two, which does no harm
            elif self._deadlines[0][1] == number:
                self._changed.notify()

    def _watch(self) -> None:
        while self._is_needed():
            for number in self._due():
                if (connection := self._watched.get(number)) is not None:
                    threading.Thread(target=self._end, args=(number, connection), daemon=True).start()

    def _is_needed(self) -> bool:
        with self._changed:
            if self._watched or not self._closed:
                return True
            self._thread = None  # a call that is still to come makes another one
            return False

    def _due(self) -> list[int]:
        """Waits until a deadline has come; also forgets the calls that ended in time."""
        with self._changed:
            self._changed.wait(self._seconds_to_next())
            due = []
            while self._deadlines and (
                self._deadlines[0][0] <= time.monotonic() or self._deadlines[0][1] not in self._watched
            ):
                due.append(heapq.heappop(self._deadlines)[1])
            return due

    def _seconds_to_next(self) -> float | None:
        return max(0.0, self._deadlines[0][0] - time.monotonic()) if self._deadlines else None

    def _end(self, number: int, connection: psycopg.Connection[Any]) -> None:
        with suppress(OSError, psycopg.Error):
            descriptor = os.dup(connection.fileno())
            cancelling = threading.Thread(target=_cancel, args=(connection,), daemon=True)
            cancelling.start()
            cancelling.join(_GRACE)
            time.sleep(_GRACE / 5)
            if number in self._watched:
                shut(descriptor)
            else:
                os.close(descriptor)


def _cancel(connection: psycopg.Connection[Any]) -> None:
    with suppress(OSError, psycopg.Error):
        connection.cancel_safe(timeout=_GRACE)
