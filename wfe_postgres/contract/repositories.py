"""The repository interfaces of the WFE engine (`wfe-core` 1.11.2) in Python. These docstrings are the specification.

Every method is atomic: it takes effect completely or not at all. Any method can raise `PersistenceError`. Methods that
take values raise `SerializationError`, before anything is sent, when a value cannot be stored exactly. Times are
timezone-aware `datetime` objects; a naive one is a `SerializationError`. Implementations are thread-safe.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from wfe_postgres.contract.errors import ConcurrencyError
from wfe_postgres.contract.models import Event, EventSubscription, ScheduledCommand, WorkflowInstance
from wfe_postgres.contract.status_changes import resume, save_changed, suspend


class WorkflowRepository(Protocol):
    """Workflow instances and their execution pointers."""

    @abstractmethod
    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        """Store a new instance with all its pointers, and return its id.

        An empty `id` becomes a new UUID, an empty `name` becomes the id; both are also set on the object, and so is
        `revision`.

        Raises `WorkflowExistsError` when the id or the name is taken; then nothing is written.
        """

    @abstractmethod
    def persist_workflow(self, instance: WorkflowInstance) -> None:
        """Make the stored workflow equal to the instance: pointers are changed, added and removed, their order is kept.

        If `revision` is set, the save is refused when anyone has changed the workflow's row since that load or save
        (optimistic locking). If it is `None`, the save is unconditional and complete. On success `revision` is the new
        one; on any error the object is unchanged.

        Raises `WorkflowNotFoundError` for an unknown id, `ConcurrencyError` when the workflow was changed meanwhile.
        """

    @abstractmethod
    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        """Like `persist_workflow`, and store new subscriptions in the same transaction.

        An empty subscription `id` becomes a new UUID, set on the object after success.

        Raises `SubscriptionExistsError` when a subscription's id is stored already.
        """

    @abstractmethod
    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        """Ids of Runnable workflows with `next_execution <= as_at`, the earliest first; at most `limit`, if given.

        `definitions`: pairs of definition id and version; only workflows of these.
        """

    def renew_workflow(self, id: str, revision: int, next_execution: int | None) -> int:
        """Set `next_execution` (milliseconds since the Unix epoch) and nothing else, under the revision.

        Returns the new revision. Set on an instance that was loaded or saved under `revision`, it lets the next save
        of that instance send only what has changed, as before.

        Raises `WorkflowNotFoundError` for an unknown id, `ConcurrencyError` when the workflow was changed meanwhile.
        """
        instance = self.get_workflow_instance(id)
        if instance.revision != revision:
            raise ConcurrencyError(id, revision, instance.revision or 0)
        instance.next_execution = next_execution
        self.persist_workflow(instance)
        assert instance.revision is not None, "a saved workflow has a revision"
        return instance.revision

    def suspend_workflow(self, id: str) -> bool:
        """Suspend a Runnable workflow. False: it is in another status, and nothing was written.

        The next save of a host that is running it raises `ConcurrencyError`. Raises `WorkflowNotFoundError`.
        """
        return save_changed(self, id, suspend)

    def resume_workflow(self, id: str, *, skip_failed: bool = False) -> bool:
        """Make a Suspended workflow Runnable, due now. False: it is in another status, and nothing was written.

        Its Running pointers become Pending. Its Failed ones become Pending, active, with `retry_count` 0 and without
        `end_time`; with `skip_failed` they become Skipped and active, and the host continues after them.

        Raises `WorkflowNotFoundError`.
        """
        return save_changed(self, id, partial(resume, skip_failed=skip_failed))

    @abstractmethod
    def terminate_workflow(self, id: str) -> bool:
        """Terminate a Runnable or Suspended workflow. False: it has ended already, and nothing was written.

        Sets `complete_time`, and removes the workflow's subscriptions and its ProcessWorkflow command. For a workflow
        with a `root_workflow_id` it creates the event that its parent waits for: `wfe.workflow.completed`, with the
        workflow's id as key and `{"status": "Terminated", "data": ...}` as data. All in one transaction. The next
        save of a host that is running the workflow raises `ConcurrencyError`.

        Raises `WorkflowNotFoundError`.
        """

    @abstractmethod
    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """The instance as it was last stored, with its pointers in their stored order; one snapshot.

        Raises `WorkflowNotFoundError`.
        """

    @abstractmethod
    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        """Like `get_workflow_instance`, by the unique name.

        Raises `WorkflowNotFoundError`.
        """

    @abstractmethod
    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        """The instances in the order of `ids`; unknown ids are left out. One snapshot for all."""

    @abstractmethod
    def next_definition_sequence(self, definition_id: str) -> int:
        """The next number of this definition: 1, 2, 3, ... No number is returned twice."""


class EventRepository(Protocol):
    """Published events."""

    @abstractmethod
    def create_event(self, event: Event, *, if_new: bool = False) -> str:
        """Store a new event, and return its id. An empty `id` becomes a new UUID, set on the object.

        Raises `EventExistsError` when the id is stored already. With `if_new` that is no error, and nothing changes:
        for a webhook that is delivered twice.
        """

    @abstractmethod
    def get_event(self, id: str) -> Event:
        """The event. Raises `EventNotFoundError`."""

    @abstractmethod
    def get_runnable_events(self, as_at: datetime, limit: int | None = None) -> list[str]:
        """Ids of unprocessed events with `event_time <= as_at`, the oldest first; at most `limit`, if given."""

    @abstractmethod
    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        """Ids of events of this name and key, processed or not, with `event_time <= as_of`, the oldest first; at most
        `limit`, if given."""

    @abstractmethod
    def get_events_since(self, event_name: str, event_key: str, since: datetime, limit: int | None = None) -> list[str]:
        """Ids of events of this name and key, processed or not, with `event_time >= since`, the oldest first; at most
        `limit`, if given.

        What a host asks for when it subscribes late (workflow-core's reading of `get_events`).
        """

    @abstractmethod
    def mark_event_processed(self, id: str) -> None:
        """Mark the event as processed: it is no longer runnable. Raises `EventNotFoundError`."""

    @abstractmethod
    def mark_event_unprocessed(self, id: str) -> None:
        """Mark the event as unprocessed: it is runnable again. Raises `EventNotFoundError`."""


class SubscriptionRepository(Protocol):
    """Which pointer waits for which event, and which worker holds the right to deliver it.

    A subscription is open when it carries no token, or a token that has expired by the store's own clock. A token
    without an expiry never expires.
    """

    @abstractmethod
    def create_event_subscription(self, subscription: EventSubscription) -> str:
        """Store a new subscription, and return its id. An empty `id` becomes a new UUID, set on the object.

        Raises `SubscriptionExistsError` when the id is stored already.
        """

    @abstractmethod
    def get_subscription(self, id: str) -> EventSubscription:
        """The subscription. Raises `SubscriptionNotFoundError`."""

    @abstractmethod
    def get_subscriptions(self, event_name: str, event_key: str, as_of: datetime) -> list[EventSubscription]:
        """The open subscriptions to this name and key with `subscribe_as_of <= as_of`, the oldest first."""

    @abstractmethod
    def get_first_open_subscription(self, event_name: str, event_key: str, as_of: datetime) -> EventSubscription | None:
        """The first of `get_subscriptions`, or `None`."""

    @abstractmethod
    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        """Lock the subscription by compare and set. True: the caller now holds it until `expiry`.

        False: another token holds it. Of any number of callers that race for an open subscription, exactly one gets
        True. Setting the token that already holds it renews the expiry and returns True, so a caller that lost the
        answer can ask again.

        Raises `SubscriptionNotFoundError`.
        """

    @abstractmethod
    def clear_subscription_token(self, id: str, token: str) -> None:
        """Release the subscription.

        Raises `SubscriptionTokenError` when this token does not hold it, which leaves the lock unchanged, and
        `SubscriptionNotFoundError` for an unknown id.
        """

    @abstractmethod
    def terminate_subscription(self, id: str) -> None:
        """Remove the subscription. Raises `SubscriptionNotFoundError`."""


class ScheduledCommandRepository(Protocol):
    """Commands that hosts carry out from a given time on, at least once each."""

    @property
    @abstractmethod
    def supports_scheduled_commands(self) -> bool:
        """Whether the two methods below work."""

    @abstractmethod
    def schedule_command(self, command: ScheduledCommand) -> None:
        """Store the command, or reschedule it: of two calls with the same (command_name, data), the `execute_time` of
        the later one is kept."""

    @abstractmethod
    def process_commands(self, as_of: datetime, handler: Callable[[ScheduledCommand], object]) -> int:
        """Call `handler` for each command with `execute_time <= as_of`, the earliest first. Returns how many were
        handled and removed.

        A command is removed after its handler returns. A handler that raises leaves its command in place and does not
        stop the others; when all are done the failures are raised together as an `ExceptionGroup`. KeyboardInterrupt
        and SystemExit end the run; what was not handled stays. One call handles each (command_name, data) at most
        once. A command that is scheduled again while its handler runs is not lost. Hosts that call this at the same
        time share the commands.
        """
