"""An in-memory persistence provider for tests, with the semantics of the PostgreSQL provider."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from wfe_postgres.codec.encoding import error_record
from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.codec.validation import count, text, timestamp
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionError, now
from wfe_postgres.testing.memory.commands import InMemoryCommands
from wfe_postgres.testing.memory.events import InMemoryEvents
from wfe_postgres.testing.memory.store import Store, kept
from wfe_postgres.testing.memory.subscriptions import InMemorySubscriptions
from wfe_postgres.testing.memory.workflows import InMemoryWorkflows

__all__ = ["InMemoryPersistenceProvider"]


class InMemoryPersistenceProvider(
    InMemoryWorkflows, InMemoryEvents, InMemorySubscriptions, InMemoryCommands, PersistenceProvider
):
    """A complete, thread-safe `PersistenceProvider` that keeps its data in memory.

    `clock` returns the time that is used for the expiry of tokens and leases, and of `resume_workflow` and
    `terminate_workflow`. `command_lease` is the duration of a
    command's lease in seconds. `max_payload_bytes` limits the encoded size of a JSON value in bytes.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = now,
        command_lease: float = 30.0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._store = Store()
        self._clock = clock
        self._configure(command_lease, max_payload_bytes)

    def another(
        self, *, command_lease: float = 30.0, max_payload_bytes: int = MAX_PAYLOAD_BYTES
    ) -> "InMemoryPersistenceProvider":
        """A second provider on the same store and clock, with its own settings."""
        other = copy.copy(self)
        other._configure(command_lease, max_payload_bytes)
        return other

    @contextmanager
    def transaction(self) -> Iterator["InMemoryPersistenceProvider"]:
        """See `PersistenceProvider`. Other threads wait until the block has ended."""
        with self._store.transaction():
            yield self

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """See `PersistenceProvider`."""
        for index, error in enumerate(errors):
            error_record(error, index, f"errors[{index}]")
        with self._store.lock:
            self._store.errors.extend(map(kept, errors))

    def ensure_store_exists(self) -> None:
        """Does nothing: the store always exists."""

    def get_execution_errors(
        self, workflow_id: str | None = None, *, since: datetime | None = None, limit: int = 100
    ) -> list[ExecutionError]:
        """Errors, newest first, optionally of one workflow and with `error_time >= since`."""
        if workflow_id is not None:
            text(workflow_id, "workflow_id")
        if since is not None:
            timestamp(since, "since")
        maximum = count(limit, "limit")
        with self._store.lock:
            found = [
                it
                for it in reversed(self._store.errors)
                if workflow_id in (None, it.workflow_id) and (since is None or it.error_time >= since)
            ]
            return copy.deepcopy(sorted(found, key=lambda it: it.error_time, reverse=True)[:maximum])

    def _configure(self, command_lease: float, max_payload_bytes: int) -> None:
        if not command_lease > 0:
            raise ValueError("command_lease must be greater than 0")
        self._lease = timedelta(seconds=command_lease)
        self._limit = max_payload_bytes
