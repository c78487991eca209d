"""What the parts of a host share."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.services import DistributedLockProvider, LifecycleEvent, QueueType
from wfe_postgres.host.context import LOG, StepContext
from wfe_postgres.host.definitions import Definitions, StepFunction
from wfe_postgres.host.outage import Outage
from wfe_postgres.host.renewal import Leases
from wfe_postgres.host.results import ExecutionResult

__all__ = ["LOG", "Environment", "Hints", "Middleware", "Transaction"]

Middleware = Callable[[StepContext, StepFunction], ExecutionResult | None]
"""Is called around each step, with its context and what runs it (or the next middleware)."""
Transaction = Callable[[], AbstractContextManager[tuple[PersistenceProvider, Any]]]
"""Gives a transaction for a step: the provider in it, and the application's session."""


@dataclass(frozen=True)
class Hints:
    """What is told after a save, or in its transaction, so that nobody need wait for the next poll."""

    workflow_is_due: Callable[[str], None]
    event_is_due: Callable[[str], None]
    publish: Callable[[Sequence[LifecycleEvent]], None] = lambda _: None
    in_transaction: bool = False
    """Nothing has happened before its commit, so nothing is published."""

    @classmethod
    def by(cls, queue_work: Callable[[str, QueueType], None], **options: Any) -> Self:
        """Those that queue by this function; `options` are the other fields."""
        return cls(lambda it: queue_work(it, QueueType.WORKFLOW), lambda it: queue_work(it, QueueType.EVENT), **options)


@dataclass
class Environment:
    """What the parts of a host share."""

    provider: PersistenceProvider
    definitions: Definitions
    transaction: Transaction | None
    middleware: Sequence[Middleware]
    lock: DistributedLockProvider | None
    lease: float
    poll_interval: float
    clock: Callable[[], datetime]
    hints: Hints
    stopping: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set when `stop` does not wait any longer."""
    outage: Outage = field(init=False)
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.outage = Outage(self.given_up)
        self.leases = Leases(self.provider, self.lease, self.clock, self.outage)

    def locked(self, id: str) -> AbstractContextManager[bool]:
        """The lock of the workflow, if the host has a lock service. False: it is busy."""
        return nullcontext(True) if self.lock is None else self.lock.lock(id)

    def holds(self, id: str) -> bool:
        """False: the lock of the workflow was lost."""
        return self.lock is None or self.lock.is_held(id)
