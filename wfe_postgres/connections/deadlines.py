"""Call timeouts, enforced where psycopg waits for the server.

TCP keepalives and `tcp_user_timeout` do not help against a peer that acknowledges packets and never answers. psycopg
waits for the server in one method, `Connection.wait`; a connection of this class compares the clock in there.
"""

import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import capabilities
from psycopg.pq import TransactionStatus

_GRACE = 0.5
"""Seconds that a cancellation may take before the connection is closed."""


monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic
)
"""Seconds on a clock that never goes back. Not `time.monotonic` where it can be helped: freezegun stops that one."""


class DeadlineExceeded(psycopg.OperationalError):
    """The server did not answer before the deadline of the call; the connection is closed."""


class _Connecting(threading.local):
    """What limits the connection that this thread makes."""

    call_deadline: float = math.inf
    deadline: float = math.inf
    longest: float = math.inf
    """Seconds for one address."""
    hosts: int = 1
    """How many have not been tried."""


connecting: _Connecting = _Connecting()


class BoundedConnection(psycopg.Connection[Any]):
    """A psycopg connection on which no wait lasts longer than until `deadline`, a time of `monotonic()`.

    At the deadline the statement is cancelled; if the server does not answer that either, the connection is closed.
    """

    deadline: float = math.inf
    timed_out: bool = False
    """The deadline has passed, and a cancellation was sent."""
    cancelled: bool = False
    """A cancellation was sent at some time. It can reach the server late, and would then end a later statement."""

    @classmethod
    def connect_within(
        cls, seconds: float, longest: float, hosts: int, *arguments: Any, **keywords: Any
    ) -> "BoundedConnection":
        """As `connect`, within the call's deadline and these seconds, divided by the hosts; `longest` for each."""
        connecting.deadline = min(connecting.call_deadline, monotonic() + seconds)
        connecting.longest, connecting.hosts = longest, hosts
        connection = cls.connect(*arguments, **keywords)
        connection.deadline = connecting.deadline
        return connection

    @classmethod
    def _connect_gen(cls, *arguments: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        """Connects to one address; psycopg tries all in turn, and counts its `connect_timeout` for each."""
        now = monotonic()
        deadline = now + min(connecting.longest, (connecting.deadline - now) / max(connecting.hosts, 1))
        connecting.hosts -= 1
        gen = super()._connect_gen(*arguments, **keywords)
        try:
            ready = yield next(gen)
            while monotonic() < deadline:
                ready = yield gen.send(ready)
        except StopIteration as done:
            return done.value
        raise psycopg.errors.ConnectionTimeout("connection timeout expired")

    def set_autocommit(self, value: bool) -> None:
        """See `psycopg.Connection`. On an idle connection there is nothing to wait for."""
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            self._autocommit = value
        else:
            super().set_autocommit(value)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.wait`. DeadlineExceeded: the server did not answer a cancellation either."""
        return super().wait(gen if self.deadline == math.inf else self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        try:
            ready = yield next(gen)
            while True:
                if monotonic() >= self.deadline:
                    self._cancel_or_close()
                ready = yield gen.send(ready)
        except StopIteration as done:
            return done.value

    def _cancel_or_close(self) -> None:
        if self.timed_out or not capabilities.has_cancel_safe():
            self.close()
            raise DeadlineExceeded("the server did not answer before the deadline")
        self.timed_out = self.cancelled = True
        # In a thread of its own: resolving the server's address can block for longer than the timeout.
        cancelling = threading.Thread(target=self._cancel, daemon=True)
        cancelling.start()
        cancelling.join(_GRACE)
        self.deadline = monotonic() + _GRACE / 5

    def _cancel(self) -> None:
        with suppress(OSError, psycopg.Error):
            self.cancel_safe(timeout=_GRACE)


def set_timeout(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Let no wait of this connection last longer than so many seconds from now, if it is a `BoundedConnection`."""
    if isinstance(connection, BoundedConnection):
        connection.deadline, connection.timed_out = monotonic() + seconds, False


def has_timed_out(connection: psycopg.Connection[Any]) -> bool:
    """Whether the timeout that was set last has passed."""
    return isinstance(connection, BoundedConnection) and connection.timed_out


def was_cancelled(connection: psycopg.Connection[Any]) -> bool:
    """Whether any statement of this connection was cancelled at its deadline."""
    return isinstance(connection, BoundedConnection) and connection.cancelled
