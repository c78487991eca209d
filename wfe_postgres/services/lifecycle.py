"""Lifecycle events over PostgreSQL's NOTIFY."""

import os
from collections.abc import Callable
from typing import Any, Self

from sqlalchemy import URL, Engine

from wfe_postgres.connections import PooledRunner, PoolSource
from wfe_postgres.connections.pooled import logger
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.contract.services import LifecycleEvent, LifecyclePublisher
from wfe_postgres.orm import SCHEMA
from wfe_postgres.services import lifecycle_statements as statements
from wfe_postgres.services.base import PostgresService
from wfe_postgres.services.lifecycle_json import decode, encode
from wfe_postgres.services.listening import Listener, channel_name

_LONGEST = 7_999
"""Bytes that a notification carries."""
_REFERENCE = "#"
"""Begins a payload that is the number of a row; JSON begins otherwise."""

Callback = Callable[[LifecycleEvent], object]


class PostgresLifecyclePublisher(PostgresService, LifecyclePublisher):
    """Tells the subscribers of all processes what happened to workflows, at most once.

    What is published while a subscriber is not connected is lost to it: the store has the truth. Nothing is retried:
    `publish` raises `PersistenceError`, and a host that it fails for goes on.

    The parameters are those of `PostgresPersistenceProvider`. To subscribe, connect directly: through PgBouncer in
    transaction mode nothing is received. A subscriber has a connection of its own and a thread in which its callbacks
    are called, one after the other; one that raises stops nothing. In a child process subscribers are called after
    `start()`.
    """

    def __init__(self, url: str | URL, *, schema: str = SCHEMA, **options: Any) -> None:
        super().__init__(url, schema=schema, **options)
        self._begin()

    @classmethod
    def from_engine(cls, engine: Engine, *, schema: str = SCHEMA) -> Self:
        """A publisher on the application's own engine. ValueError: it is not `postgresql+psycopg`."""
        publisher = cls.__new__(cls)
        publisher._open(engine, schema, 0.0)
        publisher._begin()
        return publisher

    def _begin(self) -> None:
        self.channel: str = channel_name(self.schema, "lifecycle")
        """The name of the channel that is notified."""
        self._callbacks: list[Callback] = []
        self._by_process: dict[int, Listener] = {}
        self._once = PooledRunner(PoolSource(self.engine), self.schema, timeout=self._pooled.timeout)

    @property
    def _listener(self) -> Listener:
        """That of this process."""
        pid = os.getpid()
        return self._by_process.get(pid) or self._by_process.setdefault(
            pid, Listener(self.engine, self.channel, self._told)
        )

    def publish(self, event: LifecycleEvent) -> None:
        payload = encode(event)
        parameters, statement = {"channel": self.channel, "payload": payload}, statements.NOTIFY
        if len(payload) > _LONGEST:
            parameters["prefix"], statement = _REFERENCE, statements.NOTIFY_BY_REFERENCE
        self._pooled.require_open()
        self._once.write(lambda execute, _: execute(statement, parameters), event.workflow_id)

    def subscribe(self, callback: Callback) -> None:
        """Call the callback with each event from now on. Raises `PersistenceError`: the server cannot be reached."""
        self._pooled.require_open()
        self._listener.start()
        self._callbacks.append(callback)

    def start(self) -> None:
        """Call the subscribers, again after `stop` or in a child process; any number of times."""
        self._pooled.require_open()
        if self._callbacks:
            self._listener.start()

    def stop(self) -> None:
        """Call no subscriber until `start`, and close the connection; any number of times."""
        self._listener.stop()

    def _told(self, payload: str) -> None:
        try:
            if payload.startswith(_REFERENCE):
                [(payload,)] = self._pooled.read(statements.PAYLOAD, {"id": int(payload.removeprefix(_REFERENCE))})
            event = decode(payload)
        except PersistenceError as error:
            logger.error("a lifecycle event was not received: %s", error)
        except Exception as error:  # somebody else has notified the channel
            logger.error("a notification is no lifecycle event: %s", type(error).__name__)
        else:
            for callback in list(self._callbacks):
                try:
                    callback(event)
                except BaseException:  # a SystemExit would end the thread
                    logger.exception("a lifecycle callback failed on %s of workflow %r", event.type, event.workflow_id)
