"""Takes connections from an engine's pool, each for one call."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine

from wfe_postgres.connections.lean import LeanLease, lease_leanly
from wfe_postgres.connections.lease import Lease
from wfe_postgres.connections.pools import (
    PoolSource,
    driver_connection,
    is_closed,
    require_psycopg,
    reset_pool_after_fork,
)

_MAX_CLOSED = 100
"""How many connections that the server has closed are discarded in a row before the call fails."""


def pool_source(engine: Engine) -> PoolSource[Lease, LeanLease]:
    """Connections of an engine's pool, after a check that they are open. ValueError: it is not psycopg 3's."""
    require_psycopg(engine)
    reset_pool_after_fork(engine)
    return PoolSource(engine, _lease, lease_leanly)


def _lease(engine: Engine, *, transaction: bool) -> Lease:
    for _ in range(_MAX_CLOSED):
        connection = engine.connect()
        if not is_closed(driver_connection(connection)):
            return Lease(connection, partial(_begin, connection), connection.close, transaction)
        connection.invalidate()
        connection.close()
    raise psycopg.OperationalError("the pool gave only connections that the server has closed")


def _begin(connection: Connection) -> AbstractContextManager[Any]:
    return connection.get_transaction() or connection.begin()  # a listener of `engine_connect` may have begun it
