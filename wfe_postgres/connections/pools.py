"""An engine's pool: whose connections it has, which of them are open, and how one is taken."""

import math
import os
import select
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import QueuePool

from wfe_postgres.connections.deadlines import connecting
from wfe_postgres.connections.execution import bytes_for_text
from wfe_postgres.connections.failures import CATCHABLE

_T = TypeVar("_T")
_Lease = TypeVar("_Lease")
_Lean = TypeVar("_Lean")


class PoolSource(Generic[_Lease, _Lean]):
    """Connections of an engine's pool. `lease` takes one by SQLAlchemy, `lean` without it, where that is possible."""

    def __init__(self, engine: Engine, lease: Callable[..., _Lease], lean: Callable[[Engine], _Lean | None]) -> None:
        self._engine = engine
        self._lease = lease
        self._lean = lean

    def for_transaction(self, deadline: float) -> _Lease:
        """See `ConnectionSource`."""
        return self._take(partial(self._lease, transaction=True), deadline)

    def for_statements(self, deadline: float) -> _Lease | _Lean:
        """See `ConnectionSource`."""
        reset_pool_after_fork(self._engine)
        return self._lean(self._engine) or self._take(partial(self._lease, transaction=False), deadline)

    def _take(self, lease: Callable[[Engine], _T], deadline: float) -> _T:
        reset_pool_after_fork(self._engine)
        connecting.call_deadline = deadline
        try:
            return lease(self._engine)
        except CATCHABLE:
            raise
        except TypeError as error:
            raise bytes_for_text(error) from None
        except BaseException:
            renew_pool(self._engine)
            raise
        finally:
            connecting.call_deadline = math.inf


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection under SQLAlchemy's."""
    found: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def require_psycopg(engine: Engine, *, joined: bool = False) -> None:
    """ValueError: the engine uses another driver than psycopg 3, is none, or is asynchronous and not `joined`."""
    if not isinstance(engine, Engine):
        raise ValueError(f"an engine of postgresql+psycopg (psycopg 3) is needed, not {type(engine).__name__}")
    driver = f"{engine.dialect.name}+{engine.dialect.driver}"
    if driver != "postgresql+psycopg" or (engine.dialect.is_async and not joined):
        kind = "an asynchronous engine" if engine.dialect.is_async else driver
        raise ValueError(f"the engine must be postgresql+psycopg (psycopg 3), not {kind}")


def is_closed(driver: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed an idle connection (or has sent something unasked, which ends in the same).

    One system call without waiting, so a connection that died in the pool costs no failed call.
    """
    if driver.closed:
        return True
    if not hasattr(select, "poll"):  # eventlet removes it
        return bool(select.select([driver.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def renew_pool(engine: Engine) -> None:
    """Replace the pool after a signal handler's exception interrupted a checkout or a return.

    An interrupted pool counts that connection as checked out for good, and would run out of connections.
    """
    if isinstance(engine.pool, QueuePool):
        engine.dispose()


# A pool belongs to the process that filled it: a child process gets a pool of its own ---------------------

_owners: weakref.WeakKeyDictionary[Engine, int] = weakref.WeakKeyDictionary()
"""The process id under which each engine's pool was filled."""

_owners_lock = threading.Lock()


def reset_pool_after_fork(engine: Engine) -> None:
    """Replace the engine's pool if it was inherited from a parent process, whose connections stay open.

    To be called before a connection is taken: a fork made by C code, as uWSGI's, runs none of Python's hooks.
    """
    pid = os.getpid()
    if _owners.get(engine) == pid:
        return
    with _owners_lock:
        if _owners.setdefault(engine, pid) != pid:
            engine.dispose(close=False)
            _owners[engine] = pid


def _reset_all() -> None:
    global _owners_lock
    _owners_lock = threading.Lock()  # a thread of the parent may have held it
    for engine in list(_owners):
        reset_pool_after_fork(engine)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
