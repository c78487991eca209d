"""What a host can be given beside its store: a queue, a lock service, and a publisher of what happens to workflows."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, Self

from wfe_postgres.contract.models import ExecutionPointer, WorkflowInstance


class QueueType(StrEnum):
    """What the ids of a queue are of."""

    WORKFLOW = "Workflow"
    EVENT = "Event"
    INDEX = "Index"


class QueueProvider(Protocol):
    """Ids of what is due, so that a host need not wait for its next poll. A hint: the store is the truth.

    It can also have a method `using(session_or_connection)`, which gives an object whose `queue_work` is part of that
    transaction.
    """

    @property
    @abstractmethod
    def is_dequeue_blocking(self) -> bool:
        """Whether `dequeue_work` waits when it is given a timeout."""

    @abstractmethod
    def queue_work(self, id: str, queue: QueueType) -> None:
        """Queue the id. One that is in the queue already is there once."""

    @abstractmethod
    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        """Take the first id, and wait up to `timeout` seconds for one. `None`: there is none."""

    @abstractmethod
    def start(self) -> None:
        """Begin; any number of times."""

    @abstractmethod
    def stop(self) -> None:
        """Release what `start` took; any number of times."""


class DistributedLockProvider(Protocol):
    """Locks that one holder among all processes has."""

    @abstractmethod
    def acquire_lock(self, resource: str) -> bool:
        """Try once to take the lock. False: somebody holds it, be it this provider."""

    @abstractmethod
    def release_lock(self, resource: str) -> None:
        """Release the lock if this provider holds it."""

    @abstractmethod
    def is_held(self, resource: str) -> bool:
        """Whether this provider holds the lock, and has not lost it."""

    @contextmanager
    def lock(self, resource: str) -> Iterator[bool]:
        """`with provider.lock(resource) as acquired:`; a lock that was acquired is released at the end."""
        acquired = self.acquire_lock(resource)
        try:
            yield acquired
        finally:
            if acquired:
                self.release_lock(resource)

    @abstractmethod
    def start(self) -> None:
        """Begin; any number of times."""

    @abstractmethod
    def stop(self) -> None:
        """Release all locks that are held; any number of times."""


class LifecycleEventType(StrEnum):
    """What happened to a workflow."""

    STARTED = "Started"
    RESUMED = "Resumed"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    TERMINATED = "Terminated"
    ERROR = "Error"
    STEP_STARTED = "StepStarted"
    STEP_COMPLETED = "StepCompleted"


@dataclass(frozen=True, kw_only=True)
class LifecycleEvent:
    """Something that happened to a workflow, and is stored. It has none of the workflow's data."""

    type: LifecycleEventType
    event_time: datetime
    workflow_id: str
    workflow_definition_id: str
    version: int
    reference: str | None = None
    execution_pointer_id: str | None = None
    """Of the step, for Error, StepStarted and StepCompleted."""
    step_id: int | None = None
    step_name: str | None = None
    message: str | None = None
    """Of an Error."""

    @classmethod
    def of(
        cls,
        type: LifecycleEventType,
        instance: WorkflowInstance,
        time: datetime,
        pointer: ExecutionPointer | None = None,
        message: str | None = None,
    ) -> Self:
        """The event about this workflow, or about the step of this pointer."""
        return cls(
            type=type,
            event_time=time,
            workflow_id=instance.id,
            workflow_definition_id=instance.workflow_definition_id,
            version=instance.version,
            reference=instance.reference,
            execution_pointer_id=pointer.id if pointer else None,
            step_id=pointer.step_id if pointer else None,
            step_name=pointer.step_name if pointer else None,
            message=message or None,
        )


class LifecyclePublisher(Protocol):
    """Tells subscribers what happened to workflows, at most once."""

    @abstractmethod
    def publish(self, event: LifecycleEvent) -> None:
        """Tell all subscribers."""

    @abstractmethod
    def subscribe(self, callback: Callable[[LifecycleEvent], object]) -> None:
        """Call the callback with each event from now on."""
