"""What an application asks of its workflows: the verbs of a host, also in a transaction of the application's."""

import time as clocks
from collections.abc import Callable
from datetime import datetime
from typing import Any

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import Event, WorkflowInstance, WorkflowStatus, new_id
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType
from wfe_postgres.host.activities import Activities, PendingActivity
from wfe_postgres.host.definitions import Definitions
from wfe_postgres.host.environment import Hints
from wfe_postgres.host.results import Time, seconds

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.25
_ENDED = (WorkflowStatus.COMPLETE, WorkflowStatus.TERMINATED, WorkflowStatus.SUSPENDED)


class WorkflowClient:
    """Starts, wakes, suspends, resumes and terminates workflows. Any thread may use it."""

    def __init__(
        self,
        provider: PersistenceProvider,
        definitions: Definitions,
        clock: Callable[[], datetime],
        hints: Hints | None = None,
    ) -> None:
        self.provider: PersistenceProvider = provider
        self.definitions: Definitions = definitions
        self._clock = clock
        self._hints = hints
        self._activities = Activities(provider, clock)

    @property
    def clock(self) -> Callable[[], datetime]:
        """What gives the time. It is set when the host is made."""
        return self._clock

    def start_workflow(
        self,
        definition_id: str,
        data: Any = None,
        *,
        version: int | None = None,
        name: str = "",
        reference: str | None = None,
    ) -> str:
        """Store a new workflow, due at once; returns its id.

        `data`: any JSON value, by default `{}`. `version`: by default the highest that the host knows. `name`: unique
        in the store. `reference`: the application's own key.

        Raises `LookupError` for a definition that the host does not know, `WorkflowExistsError` when the name is taken.
        """
        definition = self.definitions.find(definition_id, version)
        instance = definition.instance(data, name=name, reference=reference, create_time=self.clock())
        id = self.provider.create_new_workflow(instance)
        if self._hints is not None:
            if not self._hints.in_transaction:
                self._hints.publish([LifecycleEvent.of(LifecycleEventType.STARTED, instance, self.clock())])
            self._hints.workflow_is_due(id)
        return id

    def publish_event(self, name: str, key: str, data: Any = None, *, event_id: str = "") -> str:
        """Store an event and return its id. It goes to each workflow that waits for it, now or later.

        An `event_id` that is stored already is no error and no second event: for a webhook that is delivered twice.
        """
        event = Event(name, key, data, id=event_id or new_id(), event_time=self.clock())
        id = self.provider.create_event(event, if_new=True)
        if self._hints is not None:
            self._hints.event_is_due(id)
        return id

    def suspend_workflow(self, id: str) -> bool:
        """Suspend a Runnable workflow; a step that is running is not saved. False: it is in another status.

        Raises `WorkflowNotFoundError`.
        """
        return self._changed(id, self.provider.suspend_workflow(id), LifecycleEventType.SUSPENDED)

    def resume_workflow(self, id: str, *, skip_failed: bool = False) -> bool:
        """Run a Suspended workflow again: failed steps anew or, with `skip_failed`, what follows them.

        False: it is in another status. Raises `WorkflowNotFoundError`.
        """
        resumed = self.provider.resume_workflow(id, skip_failed=skip_failed)
        return self._changed(id, resumed, LifecycleEventType.RESUMED)

    def terminate_workflow(self, id: str) -> bool:
        """End a Runnable or Suspended workflow; a step that is running is not saved. False: it has ended.

        Raises `WorkflowNotFoundError`.
        """
        return self._changed(id, self.provider.terminate_workflow(id), LifecycleEventType.TERMINATED)

    def wait_for_workflow(self, id: str, timeout: Time) -> WorkflowInstance:
        """The workflow when it is Complete, Terminated or Suspended; `timeout` is in seconds, or a `timedelta`.

        It polls the store, by the real clock. Raises `TimeoutError`, and `WorkflowNotFoundError`.
        """
        deadline, pause = clocks.monotonic() + seconds(timeout), _FIRST_LOOK
        while (instance := self.provider.get_workflow_instance(id)).status not in _ENDED:
            if (left := deadline - clocks.monotonic()) <= 0:
                raise TimeoutError(f"workflow {id!r} is still {instance.status}")
            clocks.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_LOOK)
        return instance

    def get_pending_activity(self, name: str, worker_id: str, *, lease: Time = 60.0) -> PendingActivity | None:
        """The activity of this name that has waited longest; nobody else is given it before the lease expires.

        `worker_id`: who takes it, for people. `lease`: in seconds, or a `timedelta`. `None`: there is no such activity.
        """
        return self._activities.get_pending(name, worker_id, lease)

    def submit_activity_success(self, token: str, result: Any = None) -> None:
        """The activity is done: its workflow goes on with the result, any JSON value.

        Raises `SubscriptionTokenError` if the lease has expired and somebody else holds the activity, and
        `SubscriptionNotFoundError` if nobody waits for it any more.
        """
        self._submitted(self._activities.submit(token, succeeded=True, result=result))

    def submit_activity_failure(self, token: str, reason: str) -> None:
        """The activity could not be done: its step fails with `ActivityFailedError`, whose text is the reason.

        Raises as `submit_activity_success` does.
        """
        self._submitted(self._activities.submit(token, succeeded=False, result=reason))

    def release_activity(self, token: str) -> None:
        """Let another worker have the activity. Raises as `submit_activity_success` does."""
        self._activities.release(token)

    def _submitted(self, event_id: str) -> None:
        if self._hints is not None:
            self._hints.event_is_due(event_id)

    def _changed(self, id: str, is_changed: bool, type: LifecycleEventType) -> bool:
        if is_changed and self._hints is not None:
            if not self._hints.in_transaction:
                instance = self.provider.get_workflow_instance(id)
                self._hints.publish([LifecycleEvent.of(type, instance, self.clock())])
            if type is LifecycleEventType.RESUMED:
                self._hints.workflow_is_due(id)
        return is_changed
