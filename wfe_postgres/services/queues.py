"""A queue on PostgreSQL: rows, and NOTIFY for those that wait."""

import os
from typing import Any, Self

from sqlalchemy import URL, Engine

from wfe_postgres.codec.validation import key, member
from wfe_postgres.connections import JoinedRunner, SessionOrConnection, StatementRunner
from wfe_postgres.connections.deadlines import monotonic
from wfe_postgres.contract.services import QueueProvider, QueueType
from wfe_postgres.orm import SCHEMA
from wfe_postgres.services import queue_statements as statements
from wfe_postgres.services.base import PostgresService
from wfe_postgres.services.listening import Listener, channel_name
from wfe_postgres.services.queue_waits import Waits


class PostgresQueueProvider(PostgresService, QueueProvider):
    """A queue for each type in a table: first in, first out among what is committed.

    - `notify`: whether those that wait are woken by NOTIFY. False: they look every `poll_interval`.
    - `poll_interval`: seconds between two looks where no notifications arrive.
    - the other parameters are those of `PostgresPersistenceProvider`.

    The queue is a hint: an id that a process had taken when it was killed is lost, and found again by the poll of the
    hosts. A transaction notifies once for each type, and not at all while other ids wait.

    `dequeue_work` with a timeout listens on a connection of its own, from the first call on, in a thread. While it
    waits it sends no query, but one every 30 seconds, should a notification have been lost. Through a connection pooler
    such as PgBouncer nobody can listen: that is logged once, and the queue is polled. Thread-safe; a provider that was
    made before a fork works in the child process.
    """

    def __init__(
        self, url: str | URL, *, schema: str = SCHEMA, notify: bool = True, poll_interval: float = 1.0, **options: Any
    ) -> None:
        super().__init__(url, schema=schema, **options)
        self._set_waiting(notify, poll_interval)

    @classmethod
    def from_engine(
        cls,
        engine: Engine,
        *,
        schema: str = SCHEMA,
        notify: bool = True,
        poll_interval: float = 1.0,
        retry_budget: float = 30.0,
    ) -> Self:
        """A provider on the application's own engine. ValueError: it is not `postgresql+psycopg`."""
        provider = cls.__new__(cls)
        provider._open(engine, schema, retry_budget)
        provider._set_waiting(notify, poll_interval)
        return provider

    def _set_waiting(self, notify: bool, poll_interval: float) -> None:
        if not poll_interval > 0:
            raise ValueError("poll_interval is a number of seconds greater than 0")
        self.notify: bool = notify
        self.poll_interval: float = poll_interval
        self.channel: str = channel_name(self.schema, "queue")
        """The name of the channel that is notified, with the type of the queue."""
        self._by_process: dict[int, tuple[Waits, Listener]] = {}

    @property
    def is_dequeue_blocking(self) -> bool:
        return True

    def queue_work(self, id: str, queue: QueueType) -> None:
        self._queue(self._pooled, statements.QUEUE, id, queue)
        self._of_process()[0].queued_here(queue)

    def using(self, session_or_connection: SessionOrConnection, /) -> "JoinedQueue":
        """Queue inside the caller's transaction: what it queues can be taken after its commit.

        It has to be a transaction on the database of the queue; see `PostgresPersistenceProvider.using`.
        """
        return JoinedQueue(self, JoinedRunner(session_or_connection, self.schema))

    def _queue(self, runner: StatementRunner, statement: Any, id: str, queue: QueueType) -> None:
        channel = self.channel if self.notify else None
        parameters = {"queue": member(QueueType, queue, "queue"), "id": key(id, "id"), "channel": channel}
        runner.write(lambda execute, _: execute(statement, parameters), id)

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        parameters = {"queue": member(QueueType, queue, "queue")}
        waits, listener = self._of_process()
        if timeout is None or timeout <= 0:
            return self._take(parameters)
        deadline = monotonic() + timeout
        self._pooled.require_open()
        if self.notify:
            listener.start_later()
        while waits.is_time(queue, deadline):
            try:
                id = self._take(parameters)
            except BaseException:
                waits.look(queue)
                raise
            if id is not None:
                waits.look(queue)
                return id
        return None

    def _take(self, parameters: dict[str, str]) -> str | None:
        [(id,)] = self._pooled.write(lambda execute, _: execute(statements.TAKE, parameters))
        return None if id is None else str(id)

    def start(self) -> None:
        """Begin to listen; any number of times. `dequeue_work` does it, too."""
        self._pooled.require_open()
        if self.notify:
            self._of_process()[1].start_later()

    def stop(self) -> None:
        """Listen no longer, and let those that wait return; any number of times."""
        waits, listener = self._of_process()
        listener.stop()
        waits.interrupt()

    def _of_process(self) -> tuple[Waits, Listener]:
        """A child process begins anew."""
        pid = os.getpid()
        if (found := self._by_process.get(pid)) is None:
            waits = Waits(self.poll_interval)
            made = waits, Listener(self.engine, self.channel, lambda it: _told(waits, it), waits.set_told)
            found = self._by_process.setdefault(pid, made)
        return found


class JoinedQueue:
    """Queues inside a caller's transaction, which is never ended here."""

    def __init__(self, provider: PostgresQueueProvider, runner: StatementRunner) -> None:
        self._provider = provider
        self._runner = runner

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""
        self._provider._queue(self._runner, statements.QUEUE_IN_TRANSACTION, id, queue)


def _told(waits: Waits, payload: str) -> None:
    if payload in QueueType.__members__.values():
        waits.look(QueueType(payload))
