"""Locks on PostgreSQL: a row with a lease by the server's clock, for as long as the lock is held."""

import math
import os
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Self

from sqlalchemy import URL, Engine

from wfe_postgres.codec.validation import key
from wfe_postgres.connections import Execute, PooledRunner, PoolSource
from wfe_postgres.connections.pooled import logger
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.contract.services import DistributedLockProvider
from wfe_postgres.orm import SCHEMA
from wfe_postgres.services import lock_statements as statements
from wfe_postgres.services.base import PostgresService
from wfe_postgres.services.held_locks import Held, HeldLocks, now

_RENEWAL_SHARE = 1 / 4
"""Of the lease: how long one renewal may take."""


class PostgresLockProvider(PostgresService, DistributedLockProvider):
    """Locks in a table, each with a lease that is renewed in the background while the lock is held.

    - `lease`: seconds, by the server's clock, after which the lock of a process that was killed is free.
    - `on_lost`: called with the resource when a lock was lost: its holder was frozen, or cut off from the server, for
      longer than the lease. In a thread of the provider, one call after the other.
    - the other parameters are those of `PostgresPersistenceProvider`.

    A lost lock is logged as a WARNING, and `is_held` is False from the time on at which another process can acquire
    it. `token` is a number that rises with each acquisition of the lock: what is written under the lock can carry it,
    and a write with a lower number be refused.

    No connection is kept for a lock, and no lock of the server's: it works through PgBouncer. Thread-safe. A child
    process holds no lock of its parent's.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        schema: str = SCHEMA,
        lease: float = 30.0,
        on_lost: Callable[[str], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, schema=schema, **options)
        self._set_lease(lease, on_lost)

    @classmethod
    def from_engine(
        cls,
        engine: Engine,
        *,
        schema: str = SCHEMA,
        lease: float = 30.0,
        on_lost: Callable[[str], object] | None = None,
        retry_budget: float = 30.0,
    ) -> Self:
        """A provider on the application's own engine. ValueError: it is not `postgresql+psycopg`."""
        provider = cls.__new__(cls)
        provider._open(engine, schema, retry_budget)
        provider._set_lease(lease, on_lost)
        return provider

    def _set_lease(self, lease: float, on_lost: Callable[[str], object] | None) -> None:
        if not 0 < lease < math.inf:
            raise ValueError("lease is a number of seconds greater than 0")
        self.lease: float = lease
        self._on_lost = on_lost
        self._by_process: dict[int, HeldLocks] = {}
        self._renewals = PooledRunner(
            PoolSource(self.engine), self.schema, timeout=min(self._pooled.timeout, lease * _RENEWAL_SHARE)
        )

    @property
    def _locks(self) -> HeldLocks:
        """Those of this process: a child process begins with none."""
        pid = os.getpid()
        return self._by_process.get(pid) or self._by_process.setdefault(
            pid, HeldLocks(self.lease, self._renew, self._on_lost)
        )

    def acquire_lock(self, resource: str) -> bool:
        holder = secrets.randbits(63)
        parameters = {"resource": key(resource, "resource"), "holder": holder, "lease": self.lease}
        began = math.inf

        def attempt(execute: Execute, _: bool) -> Any:
            nonlocal began
            began = now()
            return execute(statements.ACQUIRE, parameters)

        rows = self._pooled.write(attempt, resource)
        if rows:
            self._locks.add(Held(resource, holder, rows[0][0], began + self.lease))
        return bool(rows)

    def release_lock(self, resource: str) -> None:
        lock = self._locks.pop(resource)
        if lock is not None:
            parameters = {"resource": resource, "holder": lock.holder}
            self._pooled.write(lambda execute, _: execute(statements.RELEASE, parameters), resource)

    def is_held(self, resource: str) -> bool:
        return self._locks.get(resource) is not None

    def token(self, resource: str) -> int | None:
        """The fencing number of this acquisition, higher than that of every earlier one. None: it is not held."""
        lock = self._locks.get(resource)
        return None if lock is None else lock.token

    def start(self) -> None:
        """Delete what processes left behind that died a long time ago; any number of times."""
        self._pooled.write(lambda execute, _: execute(statements.CLEAN, {}))

    def stop(self) -> None:
        """Release all locks that are held; any number of times. One that cannot be released ends with its lease."""
        locks = self._locks.pop_all()
        try:
            if locks:
                self._pooled.write(lambda execute, _: execute(statements.RELEASE_ALL, _all(locks)))
        except PersistenceError as error:
            logger.warning("%d locks were not released, and are free when their leases end: %s", len(locks), error)

    def _renew(self, locks: Iterable[Held]) -> set[int]:
        parameters = {**_all(locks), "lease": self.lease}
        return {holder for holder, _ in self._renewals.write(lambda execute, _: execute(statements.RENEW, parameters))}


def _all(locks: Iterable[Held]) -> dict[str, Any]:
    return {"resources": [it.resource for it in locks], "holders": [it.holder for it in locks]}
