"""A small synchronous workflow host: written to be read, and copied.

It drives a `PersistenceProvider` by its interfaces alone. Any number of hosts can work on one store and each
may be killed at any moment. Four rules are all it takes:

- A host claims a workflow by saving it, with the next pointer Running and `next_execution` at the end of a
  lease. Of two hosts that saw it due, one save passes; the other is a `ConcurrencyError`, and that host leaves
  the workflow alone before it has run anything. Until the lease is over nobody polls it.
- A step's effect belongs into the save of its pointer, and so counts once however often the step is run. When
  a host dies, or is slower than its lease, another repeats the step; what the slow one saves is refused.
- What is to happen later is written down first: the alarm before the save that goes to rest, the subscription
  in the save that waits. A host looks for earlier events after it has subscribed, and marks an event processed
  after all who subscribed have it: between the two there is no gap to fall through.
- Whatever was cut off between two calls is still due, and to do it again does no harm.

The hosts' clocks decide when a lease is over, never whose save counts.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from typing import Any

from wfe_postgres import (
    CommandName,
    ConcurrencyError,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PersistenceError,
    PersistenceProvider,
    PointerStatus,
    ScheduledCommand,
    SubscriptionNotFoundError,
    WfeError,
    WorkflowInstance,
    WorkflowNotFoundError,
    WorkflowStatus,
)
from wfe_postgres.demo.definitions import Context, Definition
from wfe_postgres.demo.pointers import (
    apply,
    earliest,
    finish,
    is_claimed,
    is_due,
    is_new_waiter,
    is_over,
    is_ready,
    millis,
    now,
    waits_by,
)

_log = logging.getLogger(__name__)


class Host:
    """Runs the workflows of the given definitions and leaves all others alone.

    (They stay due and take up the limit of a poll, so let the hosts of a store know all its definitions.)
    `lease` (seconds) is how long one step may take before another host repeats it. A step that raises is run
    again after `retry_delay` seconds, then after twice that, and so on; after `max_retries` the workflow is
    Suspended and waits for somebody to look at it.
    """

    def __init__(
        self,
        provider: PersistenceProvider,
        definitions: Iterable[Definition],
        *,
        lease: float = 30.0,
        retry_delay: float = 1.0,
        max_retries: int = 5,
    ) -> None:
        self.provider = provider
        self._definitions = {(definition.id, definition.version): definition for definition in definitions}
        self._lease = timedelta(seconds=lease)
        self._retry_delay = timedelta(seconds=retry_delay)
        self._max_retries = max_retries

    def start(self, definition: Definition, data: Any, *, name: str = "", reference: str | None = None) -> str:
        """Store a new workflow, due at once; return its id."""
        workflow = WorkflowInstance(definition.id, definition.version, data, name=name, reference=reference)
        workflow.execution_pointers.append(definition.pointer(0))
        return self.provider.create_new_workflow(workflow)

    def publish(self, event_name: str, event_key: str, event_data: Any = None) -> str:
        """Store an event for whoever waits for it, now or later; return its id."""
        return self.provider.create_event(Event(event_name, event_key, event_data))

    def run(self, stop: threading.Event, interval: float = 1.0) -> None:
        """Poll until `stop` is set, and rest `interval` seconds whenever nothing was due.

        Raises `PersistenceError` when the store stays away. A host that starts again loses nothing by it.
        """
        while not stop.is_set():
            if not self.poll():
                stop.wait(interval)

    def poll(self, limit: int = 100) -> int:
        """Do what is due: commands, then events, then workflows; return how many were done."""
        done = self._process_commands()
        for event_id in self.provider.get_runnable_events(now(), limit):
            done += self._attempt(self.deliver, event_id)
        workflow_ids = self.provider.get_runnable_instances(now(), limit)
        random.shuffle(workflow_ids)  # hosts that polled one list would race each other all the way down it
        for workflow_id in workflow_ids:
            done += self._attempt(self.advance, workflow_id)
        return done

    def _attempt(self, work: Callable[[str], bool], id: str) -> bool:
        """A row that cannot be read, or that another host has taken, keeps no other from its turn."""
        try:
            return work(id)
        except ConcurrencyError:
            return False
        except WfeError as error:
            _log.warning("left for the next round: %s", error)
            return False

    # Workflows: each step is run between two saves, the claim and the result.

    def advance(self, workflow_id: str) -> bool:
        """Run the steps of a due workflow until none is ready; False when it was not due (any more)."""
        workflow = self.provider.get_workflow_instance(workflow_id)
        definition = self._definitions.get((workflow.workflow_definition_id, workflow.version))
        if definition is None or not is_due(workflow):
            return False
        while (pointer := self._claim(workflow, definition)) is not None:
            claimed = workflow.revision
            try:
                self._run_step(workflow, definition, pointer)
            except (ConcurrencyError, PersistenceError):
                raise
            except Exception as error:
                return self._fail(workflow_id, claimed, pointer.id, error)
        return True

    def _claim(self, workflow: WorkflowInstance, definition: Definition) -> ExecutionPointer | None:
        """Save the workflow with its next pointer Running and return that; or save when to look again."""
        if any(map(self._look_back, filter(is_new_waiter, workflow.execution_pointers))):
            return None
        for pointer in reversed(list(workflow.execution_pointers)):  # inner branches before outer ones
            if is_over(workflow, pointer):
                finish(workflow, definition, pointer)
        ready = next(filter(is_ready, workflow.execution_pointers), None)
        if ready is None:
            self._rest(workflow)
        else:
            ready.status, ready.sleep_until = PointerStatus.RUNNING, None
            ready.start_time = ready.start_time or now()
            workflow.next_execution = millis(now() + self._lease)
        self.provider.persist_workflow(workflow)
        return ready

    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> AbstractContextManager[tuple[PersistenceProvider, Any]]:
        """Where a step is run and its result saved: gives the provider that saves, and `Context.resources`.

        Override it to let steps write the application's rows, committed with the workflow or not at all:

            with Session(engine) as session, session.begin():
                yield provider.using(session), session
        """
        return nullcontext((self.provider, None))

    def _run_step(self, workflow: WorkflowInstance, definition: Definition, pointer: ExecutionPointer) -> None:
        step = definition.all_steps[pointer.step_id]
        with self.transaction(workflow, pointer) as (provider, resources):
            outcome = step(Context(workflow, pointer, resources))
            subscriptions = apply(workflow, definition, pointer, outcome)
            provider.persist_workflow_with_subscriptions(workflow, subscriptions)

    def _rest(self, workflow: WorkflowInstance) -> None:
        """Nothing is ready: the workflow is complete, or due when a retry is, or woken by alarm or event."""
        pointers = workflow.execution_pointers
        workflow.next_execution = earliest(pointers, PointerStatus.PENDING)
        alarm = earliest(pointers, PointerStatus.SLEEPING)
        if alarm is not None:
            self.provider.schedule_command(ScheduledCommand.process_workflow(workflow.id, alarm))
        if workflow.is_branch_complete([]):
            workflow.status, workflow.complete_time = WorkflowStatus.COMPLETE, now()

    def _fail(self, workflow_id: str, claimed: int | None, pointer_id: str, error: Exception) -> bool:
        """Save the failure alone: the workflow as it was claimed, without what the step had begun to change."""
        workflow = self.provider.get_workflow_instance(workflow_id)
        if workflow.revision != claimed:
            return False
        pointer = next(pointer for pointer in workflow.execution_pointers if pointer.id == pointer_id)
        if pointer.retry_count < self._max_retries:
            pointer.status = PointerStatus.PENDING
            pointer.sleep_until = now() + self._retry_delay * 2**pointer.retry_count
            pointer.retry_count += 1
            workflow.next_execution = millis(now())
        else:
            pointer.status, pointer.active, pointer.end_time = PointerStatus.FAILED, False, now()
            workflow.status, workflow.next_execution = WorkflowStatus.SUSPENDED, None
        self.provider.persist_workflow(workflow)
        message = f"{type(error).__name__}: {error}"
        self.provider.persist_errors([ExecutionError(workflow_id, pointer_id, message)])
        return True

    # Events reach a waiting pointer from two sides: when they come, and when it begins to wait.

    def deliver(self, event_id: str) -> bool:
        """Give the event to all who wait for it; False while one of them is running a step.

        No token is needed, since to hand over is one save and its revision lets only one host pass. Tokens
        are for those who hold a subscription for a length of time.
        """
        event = self.provider.get_event(event_id)
        waiters = self.provider.get_subscriptions(event.event_name, event.event_key, event.event_time)
        handed_over = [self._hand_over(event, waiter) for waiter in waiters]
        if all(handed_over):
            self.provider.mark_event_processed(event_id)
        return all(handed_over)

    def _hand_over(self, event: Event, waiter: EventSubscription) -> bool:
        workflow = self.provider.get_workflow_instance(waiter.workflow_id)
        if is_claimed(workflow):
            return False
        for pointer in workflow.execution_pointers:
            if waits_by(pointer, waiter):
                pointer.status, pointer.active = PointerStatus.PENDING, True
                pointer.event_data, pointer.event_published = event.event_data, True
                workflow.next_execution = millis(now())
                self.provider.persist_workflow(workflow)
        with suppress(SubscriptionNotFoundError):
            self.provider.terminate_subscription(waiter.id)
        return True

    def _look_back(self, pointer: ExecutionPointer) -> bool:
        """Deliver an event that was there before the subscription; if there is none, the next one will come."""
        try:
            waiter = self.provider.get_subscription(pointer.extension_attributes["subscription"])
        except SubscriptionNotFoundError:
            return True  # another host has delivered an event in this moment
        earlier = self.provider.get_events_since(waiter.event_name, waiter.event_key, waiter.subscribe_as_of)
        pointer.active = False
        return bool(earlier) and self.deliver(earlier[0])

    # Commands are alarms: they make a workflow due, and the poll that follows runs it.

    def _process_commands(self) -> int:
        try:
            return self.provider.process_commands(now(), self._carry_out)
        except* ConcurrencyError:
            pass
        except* WfeError as failures:
            _log.warning("left for the next round: %s", failures.exceptions)
        return 0

    def _carry_out(self, command: ScheduledCommand) -> None:
        with suppress(WorkflowNotFoundError):
            if command.command_name == CommandName.PROCESS_EVENT:
                self.deliver(command.data)
            else:
                self._wake(command.data)

    def _wake(self, workflow_id: str) -> None:
        workflow = self.provider.get_workflow_instance(workflow_id)
        if is_claimed(workflow):
            again = ScheduledCommand.process_workflow(workflow_id, workflow.next_execution or 0)
            self.provider.schedule_command(again)
        elif workflow.status == WorkflowStatus.RUNNABLE:
            workflow.next_execution = millis(now())
            self.provider.persist_workflow(workflow)
