"""Takes connections from an engine's pool, each for one call."""

import math
import os
import threading
import weakref
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine

from wfe_postgres.connections.deadlines import connecting
from wfe_postgres.connections.execution import bytes_for_text, is_closed
from wfe_postgres.connections.failures import CATCHABLE
from wfe_postgres.connections.lean import LeanLease, lease_leanly
from wfe_postgres.connections.lease import Lease
from wfe_postgres.connections.pools import driver_connection, renew_pool, require_psycopg

_MAX_CLOSED = 100
"""How many connections that the server has closed are discarded in a row before the call fails."""


class PoolSource:
    """Connections of an engine's pool, after a check that they are open. ValueError: it is not psycopg 3's."""

    def __init__(self, engine: Engine) -> None:
        require_psycopg(engine)
        reset_pool_after_fork(engine)
        self._engine = engine

    def for_transaction(self, deadline: float) -> Lease:
        """See `ConnectionSource`."""
        return self._take(deadline, transaction=True)

    def for_statements(self, deadline: float) -> Lease | LeanLease:
        """See `ConnectionSource`: without SQLAlchemy, where that is possible."""
        reset_pool_after_fork(self._engine)
        return lease_leanly(self._engine) or self._take(deadline, transaction=False)

    def _take(self, deadline: float, *, transaction: bool) -> Lease:
        reset_pool_after_fork(self._engine)
        connecting.call_deadline = deadline
        try:
            return _lease(self._engine, transaction)
        except CATCHABLE:
            raise
        except TypeError as error:
            raise bytes_for_text(error) from None
        except BaseException:
            renew_pool(self._engine)
            raise
        finally:
            connecting.call_deadline = math.inf


def _lease(engine: Engine, transaction: bool) -> Lease:
    for _ in range(_MAX_CLOSED):
        connection = engine.connect()
        if not is_closed(driver_connection(connection)):
            return Lease(connection, partial(_begin, connection), connection.close, transaction)
        connection.invalidate()
        connection.close()
    raise psycopg.OperationalError("the pool gave only connections that the server has closed")


def _begin(connection: Connection) -> AbstractContextManager[Any]:
    return connection.get_transaction() or connection.begin()  # a listener of `engine_connect` may have begun it


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
