"""The persistence interfaces of the WFE engine (`wfe-core` 1.10), in Python. Their docstrings are the specification.

Every method is atomic: it takes place whole or not at all. Every method may raise `PersistenceError`;
those that take values raise `SerializationError` before anything is sent when one cannot be stored exactly.
A time is a timezone-aware `datetime`; a naive one is a `SerializationError`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from wfe_postgres.contract.models import (
    Event,
    EventSubscription,
    ExecutionError,
    ScheduledCommand,
    WorkflowInstance,
)


class WorkflowRepository(Protocol):
    """Workflow instances and their pointers."""

    @abstractmethod
    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        """Store a new instance with all its pointers and return its id.

        An empty `id` becomes a new UUID, an empty `name` becomes the id; both are also set on the object,
        and so is `revision`.

        Raises `WorkflowExistsError` when the id or the name is taken; then nothing is written.
        """

    @abstractmethod
    def persist_workflow(self, instance: WorkflowInstance) -> None:
        """Make the stored workflow equal to the instance: pointers changed, added, removed, in this order.

        With a `revision` the save is refused when anyone changed the workflow's row since that load or
        save; without one (`None`) it is unconditional and complete. On success `revision` is the new stamp.
        On any error the object is as it was.

        Raises `WorkflowNotFoundError` for an unknown id, `ConcurrencyError` when somebody was faster.
        """

    @abstractmethod
    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        """As `persist_workflow`, and store new subscriptions in the same transaction.

        An empty subscription `id` becomes a new UUID, set on the object after success.
        """

    @abstractmethod
    def get_runnable_instances(self, as_at: datetime, limit: int | None = None) -> list[str]:
        """Ids of the Runnable ones with `next_execution <= as_at`, the earliest first."""

    @abstractmethod
    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """The instance as it was last stored, its pointers in their stored order; one snapshot.

        Raises `WorkflowNotFoundError`.
        """

    @abstractmethod
    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        """As `get_workflow_instance`, by the unique name.

        Raises `WorkflowNotFoundError`.
        """

    @abstractmethod
    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        """The instances in the order of `ids`; unknown ids are left out. One snapshot for all."""

    @abstractmethod
    def next_definition_sequence(self, definition_id: str) -> int:
        """1, 2, 3, ... per definition: never the same number twice, however many hosts ask at once."""


class EventRepository(Protocol):
    """Events that were published."""

    @abstractmethod
    def create_event(self, event: Event) -> str:
        """Store a new event and return its id. An empty `id` becomes a new UUID, set on the object."""

    @abstractmethod
    def get_event(self, id: str) -> Event:
        """The event. Raises `EventNotFoundError`."""

    @abstractmethod
    def get_runnable_events(self, as_at: datetime, limit: int | None = None) -> list[str]:
        """Ids of the unprocessed with `event_time <= as_at`, oldest first."""

    @abstractmethod
    def get_events(self, event_name: str, event_key: str, as_of: datetime) -> list[str]:
        """Ids of those that match, processed or not, with `event_time <= as_of`, oldest first."""

    @abstractmethod
    def get_events_since(self, event_name: str, event_key: str, since: datetime) -> list[str]:
        """Ids of those that match, processed or not, with `event_time >= since`, oldest first.

        What a host that subscribes late asks for (workflow-core's reading of `get_events`).
        """

    @abstractmethod
    def mark_event_processed(self, id: str) -> None:
        """Take the event off the runnable ones. Raises `EventNotFoundError`."""

    @abstractmethod
    def mark_event_unprocessed(self, id: str) -> None:
        """Make the event runnable again. Raises `EventNotFoundError`."""


class SubscriptionRepository(Protocol):
    """Who waits for which event, and who holds the right to deliver it.

    A subscription is open when it carries no token, or one that has expired by the store's own clock.
    A token without an expiry never expires.
    """

    @abstractmethod
    def create_event_subscription(self, subscription: EventSubscription) -> str:
        """Store a new subscription and return its id. An empty `id` becomes a new UUID, set on the object."""

    @abstractmethod
    def get_subscription(self, id: str) -> EventSubscription:
        """The subscription. Raises `SubscriptionNotFoundError`."""

    @abstractmethod
    def get_subscriptions(self, event_name: str, event_key: str, as_of: datetime) -> list[EventSubscription]:
        """The open ones that match with `subscribe_as_of <= as_of`, oldest first."""

    @abstractmethod
    def get_first_open_subscription(self, event_name: str, event_key: str, as_of: datetime) -> EventSubscription | None:
        """The first of `get_subscriptions`, or `None`."""

    @abstractmethod
    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        """Compare and set: True when the caller now holds the subscription until `expiry`.

        False: another token holds it. Of any number of callers racing for an open one exactly one gets
        True. Setting the token that already holds it renews the expiry and is True.

        Raises `SubscriptionNotFoundError`.
        """

    @abstractmethod
    def clear_subscription_token(self, id: str, token: str) -> None:
        """Give the subscription back.

        Raises `SubscriptionTokenError` when this token does not hold it (the lock stays as it was),
        `SubscriptionNotFoundError` for an unknown id.
        """

    @abstractmethod
    def terminate_subscription(self, id: str) -> None:
        """Remove the subscription. Raises `SubscriptionNotFoundError`."""


class ScheduledCommandRepository(Protocol):
    """Commands that hosts shall carry out at a given time, at least once each."""

    @property
    @abstractmethod
    def supports_scheduled_commands(self) -> bool:
        """Whether the two methods below work."""

    @abstractmethod
    def schedule_command(self, command: ScheduledCommand) -> None:
        """Store the command, or move it: of two calls for one (command_name, data) the later one's
        `execute_time` stands."""

    @abstractmethod
    def process_commands(self, as_of: datetime, handler: Callable[[ScheduledCommand], object]) -> int:
        """Call `handler` for each command with `execute_time <= as_of`, earliest first; return how many
        were handled and removed.

        A command is removed once its handler has returned. A handler that raises leaves its command in
        place and does not stop the others; when all are done the failures are raised together as an
        `ExceptionGroup`. KeyboardInterrupt and SystemExit end the run; what was not handled stays.
        One call handles each (command_name, data) at most once. A command that is scheduled again while
        its handler runs is not lost. Hosts that call this at the same time share the commands.
        """


class PersistenceProvider(
    WorkflowRepository, EventRepository, SubscriptionRepository, ScheduledCommandRepository, Protocol
):
    """Everything a workflow host needs of a store."""

    @abstractmethod
    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """Store the errors, all or none."""

    @abstractmethod
    def ensure_store_exists(self) -> None:
        """Create the store or bring it up to date; any number of times, from any number of processes at once.

        Raises `StoreNotReadyError` when the store is newer than this library.
        """
