"""Gives events to the pointers that wait for them, and carries out scheduled commands."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from wfe_postgres.contract.errors import (
    ConcurrencyError,
    EventNotFoundError,
    SubscriptionNotFoundError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.models import (
    CommandName,
    Event,
    EventSubscription,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.contract.status_changes import UNFINISHED
from wfe_postgres.host.activities import RESULT_EVENT
from wfe_postgres.host.definitions import WorkflowDefinition
from wfe_postgres.host.environment import LOG, Environment
from wfe_postgres.host.errors import Retry
from wfe_postgres.host.executor import SUBSCRIPTION, Executor
from wfe_postgres.host.outage import HostStoppedError, is_transient
from wfe_postgres.host.pointers import due_at_once, milliseconds, running
from wfe_postgres.host.saving import store
from wfe_postgres.host.waits import earliest_event, events_since

_UNKNOWN = WorkflowDefinition(id="", version=0, description=None, on_error=Retry(), steps=())
"""For workflows of other hosts: their events are handed over, and nothing else is done with them."""
_LONGEST_DELAY = 3600.0
_MOST_CONFLICTS = 10


class Delivery:
    """Events and commands. Used by all threads of a host."""

    def __init__(self, environment: Environment) -> None:
        self._env = environment
        self._unreadable: set[str] = set()
        self._stuck: set[str] = set()
        """The events that are left for workflows which cannot be read, and for no other."""

    def process_event(self, id: str) -> bool:
        """Give the event to all who wait for it. For those who cannot take it now it is scheduled again.

        False: there is no such event.
        """
        provider = self._env.provider
        try:
            event = self._env.outage.outlast(lambda: provider.get_event(id))
        except EventNotFoundError:
            return False
        waiters = self._waiters(event)
        is_first = self._is_first(event, waiters)
        left = [waiter for waiter in waiters if not self._hand_over(event, waiter, is_first)]
        if left:
            if all(waiter.workflow_id in self._unreadable for waiter in left):
                self._stuck.add(id)
            self._schedule_again(event)
        elif not event.is_processed:
            self._mark_processed(event)
        return True

    def is_stuck(self, command: ScheduledCommand) -> bool:
        """Whether time alone does not help with what the command asks for."""
        return command.command_name is CommandName.PROCESS_EVENT and command.data in self._stuck

    def carry_out(self, command: ScheduledCommand) -> None:
        """What the command asks for. One for what no longer exists is done."""
        if command.command_name is CommandName.PROCESS_EVENT:
            self.process_event(command.data)
        else:
            self._wake(command.data)

    def _mark_processed(self, event: Event) -> None:
        with suppress(EventNotFoundError):
            self._env.outage.outlast(lambda: self._env.provider.mark_event_processed(event.id))

    def _schedule_again(self, event: Event) -> None:
        """After a quarter of the event's age: soon for a step that is running, rarely for what stays unreadable."""
        now = self._env.clock()
        age = (now - event.event_time).total_seconds()
        later = now + timedelta(seconds=min(max(age / 4, self._env.poll_interval), _LONGEST_DELAY))
        command = ScheduledCommand.process_event(event.id, milliseconds(later))

        def schedule() -> None:
            with self._env.provider.transaction() as tx, suppress(EventNotFoundError):
                if not event.is_processed:
                    tx.mark_event_processed(event.id)
                tx.schedule_command(command)

        self._env.outage.outlast(schedule)

    def _waiters(self, event: Event) -> Sequence[EventSubscription]:
        provider = self._env.provider
        if event.event_name == RESULT_EVENT:
            with suppress(SubscriptionNotFoundError):
                return [provider.get_subscription(event.event_key)]
            return []
        return self._env.outage.outlast(
            lambda: provider.get_subscriptions(event.event_name, event.event_key, event.event_time)
        )

    def _is_first(self, event: Event, waiters: Sequence[EventSubscription]) -> bool:
        """Whether no waiter can wait for an earlier event: one that was not given to it while it could not take it."""
        provider = self._env.provider
        return not waiters or self._env.outage.outlast(lambda: events_since(waiters, provider, 1)) == [event.id]

    def _hand_over(self, event: Event, waiter: EventSubscription, is_first: bool) -> bool:
        """False: the waiter cannot take it now. Whatever is wrong with one waiter stops no other."""
        for _ in range(_MOST_CONFLICTS):
            try:
                return self._env.outage.outlast(lambda: self._give(event, waiter, is_first))
            except ConcurrencyError:
                continue
            except HostStoppedError:
                raise
            except Exception as error:  # also of attributes in which the application keeps something else
                if is_transient(error):
                    raise
                if waiter.workflow_id not in self._unreadable:
                    self._unreadable.add(waiter.workflow_id)
                    LOG.error("event %r was not given to workflow %r: %s", event.id, waiter.workflow_id, error)
                return False
        return False

    def _give(self, event: Event, waiter: EventSubscription, is_first: bool) -> bool:
        with self._env.locked(waiter.workflow_id) as acquired:
            if not acquired:
                return False
            try:
                instance = self._env.provider.get_workflow_instance(waiter.workflow_id)
            except WorkflowNotFoundError:
                return self._remove(waiter)
            pointer = _pointer_of(instance, waiter)
            if pointer is None:
                return self._remove(waiter)
            if self._is_claimed(instance):
                return False
            self._save_given(event, waiter, instance, pointer, is_first)
            return True

    def _save_given(
        self,
        event: Event,
        waiter: EventSubscription,
        instance: WorkflowInstance,
        pointer: ExecutionPointer,
        is_first: bool,
    ) -> None:
        definition = self._env.definitions.get((instance.workflow_definition_id, instance.version), _UNKNOWN)
        executor = Executor(instance, definition, self._env.clock())
        if executor.accepts(pointer, event):
            pointer.extension_attributes.setdefault(SUBSCRIPTION, waiter.id)  # one that another host has made
            if not is_first and definition is not _UNKNOWN:  # without it nobody can say which are from before
                event = earliest_event(self._env.provider, executor, pointer, waiter) or event
            executor.deliver(pointer, event)
            store(self._env.provider, instance, executor.changes)
            self._env.hints.workflow_is_due(instance.id)

    def _remove(self, waiter: EventSubscription) -> bool:
        """Nobody waits by this subscription any more."""
        with suppress(SubscriptionNotFoundError):
            self._env.provider.terminate_subscription(waiter.id)
        return True

    def _wake(self, id: str) -> None:
        provider = self._env.provider
        try:
            instance = provider.get_workflow_instance(id)
        except WorkflowNotFoundError:
            return
        now = due_at_once(self._env.clock())
        due = instance.next_execution
        if self._is_claimed(instance):
            provider.schedule_command(ScheduledCommand.process_workflow(id, due or now))
        elif instance.status is WorkflowStatus.RUNNABLE and (due is None or due > now):
            assert instance.revision is not None, "the workflow was loaded"
            with suppress(ConcurrencyError):
                provider.renew_workflow(id, instance.revision, now)
            self._env.hints.workflow_is_due(id)

    def _is_claimed(self, instance: WorkflowInstance) -> bool:
        due = instance.next_execution
        return bool(running(instance)) and due is not None and due > milliseconds(self._env.clock())


def _pointer_of(instance: WorkflowInstance, waiter: EventSubscription) -> ExecutionPointer | None:
    """The pointer that waits by this subscription."""
    if instance.status not in UNFINISHED:
        return None
    return next(
        (
            it
            for it in instance.execution_pointers
            if it.id == waiter.execution_pointer_id
            and it.status is PointerStatus.WAITING_FOR_EVENT
            and it.extension_attributes.get(SUBSCRIPTION, waiter.id) == waiter.id
        ),
        None,
    )
