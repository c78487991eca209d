"""Waits while the database is unavailable."""

import threading
from collections.abc import Callable
from typing import TypeVar

from wfe_postgres.contract.errors import OutcomeUnknownError, PersistenceError
from wfe_postgres.host.context import LOG

_T = TypeVar("_T")
_CONNECTION_STATES = ("08", "57P")
_CONNECTION_ERRORS = ("OperationalError", "InterfaceError")
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


class HostStoppedError(Exception):
    """The host gave up while the database was unavailable."""


def is_transient(error: BaseException) -> bool:
    """The call may succeed later, or may have succeeded."""
    return isinstance(error, PersistenceError) and (error.retryable or isinstance(error, OutcomeUnknownError))


def is_lost_connection(error: BaseException) -> bool:
    """Whether a commit, by the application's own library, was lost with its connection, and not refused by the server.

    Told by the SQLSTATE that it, or what it was raised from, has; without one by the names of PEP 249.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    states = [getattr(it, "sqlstate", None) or getattr(it, "pgcode", None) for it in chain]
    if getattr(error, "connection_invalidated", False):  # SQLAlchemy's errors
        return True
    if found := next(filter(None, states), None):
        return str(found).startswith(_CONNECTION_STATES)
    return any(kind.__name__ in _CONNECTION_ERRORS for it in chain for kind in type(it).__mro__)


class Outage:
    """Waits while the database is unavailable, and logs its beginning and its end once, for all threads of a host."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._lock = threading.Lock()
        self._lasts = False

    def outlast(self, call: Callable[[], _T]) -> _T:
        """The result of the call, which has no effect or is safe to repeat, repeated after transient errors.

        Raises `HostStoppedError` when the host is stopped meanwhile.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                result = call()
            except PersistenceError as error:
                if not is_transient(error):
                    raise
                self.begin(error)
            else:
                self.end()
                return result
            if self._stopped.wait(pause):
                raise HostStoppedError
            pause = min(2 * pause, _LONGEST_PAUSE)

    def begin(self, error: BaseException) -> None:
        """Log that the database is unavailable, if that is new."""
        with self._lock:
            if not self._lasts:
                self._lasts = True
                LOG.warning("the database is unavailable, the host waits for it: %s", error)

    def end(self) -> None:
        """Log that the database is available, if that is new."""
        if self._lasts:
            with self._lock:
                if self._lasts:
                    self._lasts = False
                    LOG.warning("the database is available again")
