"""A connection that listens for notifications, in a thread. One that was lost is made anew."""

import hashlib
import math
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine

from wfe_postgres.connections.checkout import reset_pool_after_fork
from wfe_postgres.connections.deadlines import set_timeout
from wfe_postgres.connections.execution import PlainCursor
from wfe_postgres.connections.failures import CATCHABLE, classify
from wfe_postgres.connections.pooled import logger
from wfe_postgres.connections.pools import driver_connection, require_psycopg

_LONGEST_CHANNEL = 63
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_TIMEOUT = 10.0
"""Seconds that LISTEN may take."""
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""So that the end of a silent network is noticed within a minute, although this connection never sends anything."""

_Connections = tuple[Connection, "psycopg.Connection[Any]"]


class _PooledError(Exception):
    """The server's process is shared with others: it is another one for each transaction, and LISTEN reaches one."""


class Listener:
    """Listens on a channel, for one process. No query is sent while it waits.

    `told` is called in the listener's thread, with the payload of each notification, and raises nothing. So is
    `changed`, with whether notifications arrive from now on; what is given it can do without them, and where the
    connection goes through a pooler it does.
    """

    def __init__(
        self,
        engine: Engine,
        channel: str,
        told: Callable[[str], object],
        changed: Callable[[bool], object] | None = None,
    ) -> None:
        require_psycopg(engine)
        self._changed = changed
        self._engine = engine
        self._channel = channel
        self._told = told
        self._guard = threading.Lock()
        self._stopped: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._is_connecting = False

    def start(self) -> None:
        """Listen, from the return of this call on; any number of times. Raises `PersistenceError`."""
        with self._guard:
            if self._thread is not None:
                return
            try:
                connected = self._listen()
            except CATCHABLE as error:
                failure = classify(error, sent=False)
            else:
                self._begin(connected)
                return
        raise failure.error

    def start_later(self) -> None:
        """Listen as soon as the server can be reached; any number of times."""
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    self._begin(None)

    def stop(self) -> None:
        """Listen no longer; any number of times. A callback that is running is awaited."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is None or self._stopped is None or self._wake is None:
                return
            self._stopped.set()
            self._wake.close()
        if thread is not threading.current_thread() and not self._is_connecting:
            thread.join()

    def _begin(self, connected: _Connections | None) -> None:
        self._stopped = threading.Event()
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(
            target=self._run, args=(connected, self._stopped, woken), name="wfe_postgres-listen", daemon=True
        )
        self._thread.start()

    def _listen(self) -> _Connections:
        """A connection of the listener's own, which the pool replaces by another one."""
        reset_pool_after_fork(self._engine)
        connection = self._engine.connect()
        try:
            driver = driver_connection(connection)
            connection.detach()
            _keep_alive(driver.fileno())
            driver.autocommit = True
            set_timeout(driver, _TIMEOUT)
            if self._changed is not None and driver.info.backend_pid != _process_of(driver):
                raise _PooledError
            driver.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            set_timeout(driver, math.inf)
        except BaseException:
            connection.close()
            raise
        return connection, driver

    def _run(self, connected: _Connections | None, stopped: threading.Event, woken: socket.socket) -> None:
        pause, was_lost = _FIRST_PAUSE, False
        with woken:
            while not stopped.is_set():
                try:
                    self._is_connecting = connected is None
                    connection, driver = connected = connected or self._listen()
                    self._is_connecting = False
                    with connection:
                        if was_lost:
                            logger.warning("listening on %s again; earlier notifications are lost", self._channel)
                        pause = _FIRST_PAUSE
                        self._tell(True, stopped)
                        self._receive(driver, stopped, woken)
                except _PooledError:
                    logger.warning("nobody can listen on %s through a connection pooler", self._channel)
                    stopped.wait()
                except CATCHABLE as error:
                    if connected is not None:
                        reason = classify(error).error
                        logger.warning("the connection that listens on %s was lost: %s", self._channel, reason)
                        self._tell(False, stopped)
                        was_lost = True
                    connected = None
                    stopped.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell(self, is_listening: bool, stopped: threading.Event) -> None:
        if self._changed is not None and not stopped.is_set():
            self._changed(is_listening)

    def _receive(self, driver: psycopg.Connection[Any], stopped: threading.Event, woken: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            for file in (driver.fileno(), woken):
                selector.register(file, selectors.EVENT_READ)
            while True:
                for notification in driver.notifies(timeout=0):
                    self._told(notification.payload)
                if stopped.is_set():
                    return
                selector.select()


def channel_name(schema: str, service: str) -> str:
    """The name of the channel of a service: `wfc_queue`, or one of the same length for all schemas with long names."""
    name = f"{schema}_{service}"
    return name if len(name) <= _LONGEST_CHANNEL else f"{service}_{hashlib.sha256(schema.encode()).hexdigest()[:40]}"


def _process_of(driver: psycopg.Connection[Any]) -> int:
    """The server's process behind the connection. A pooler tells its clients of another one."""
    with PlainCursor(driver) as cursor:
        [(pid,)] = cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        return int(pid)


def _keep_alive(file: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(file)) as connection:
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
