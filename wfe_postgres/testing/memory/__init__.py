"""A persistence provider in this process's memory, for the tests of hosts: no database, the same semantics."""

import copy
from collections.abc import Callable, Sequence
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
    """A complete `PersistenceProvider`, thread-safe, whose store is gone with the last object that uses it.

    `clock` tells the time by which tokens and commands' leases expire. `command_lease`: for how many seconds a
    command belongs to the host that runs it. `max_payload_bytes` limits one JSON value, in bytes of its encoding.
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
        """A second host's provider: on the same store and clock, with settings of its own."""
        other = copy.copy(self)
        other._configure(command_lease, max_payload_bytes)
        return other

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """See `PersistenceProvider`."""
        for index, error in enumerate(errors):
            error_record(error, index, f"errors[{index}]")
        with self._store.lock:
            self._store.errors.extend(map(kept, errors))

    def ensure_store_exists(self) -> None:
        """Nothing to do: the store is there from the start."""

    def get_execution_errors(
        self, workflow_id: str | None = None, *, since: datetime | None = None, limit: int = 100
    ) -> list[ExecutionError]:
        """The errors, of one workflow if it is given, with `error_time >= since` if it is given, newest first."""
        if workflow_id is not None:
            text(workflow_id, "workflow_id")
        if since is not None:
            timestamp(since, "since")
        most = count(limit, "limit")
        with self._store.lock:
            found = [
                it
                for it in reversed(self._store.errors)
                if workflow_id in (None, it.workflow_id) and (since is None or it.error_time >= since)
            ]
            return copy.deepcopy(sorted(found, key=lambda it: it.error_time, reverse=True)[:most])

    def _configure(self, command_lease: float, max_payload_bytes: int) -> None:
        if not command_lease > 0:
            raise ValueError("command_lease is a number of seconds greater than 0")
        self._lease = timedelta(seconds=command_lease)
        self._limit = max_payload_bytes
