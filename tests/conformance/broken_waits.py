"""Ways to break events, alarms, sagas and control structures of `WorkflowHost`, for pytest's `monkeypatch`."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from wfe_postgres.contract.models import Event, WorkflowStatus
from wfe_postgres.host import (
    ExecutionResult,
    Retry,
    StepContext,
    WorkflowClient,
    context,
    delivery,
    executor,
    failures,
    pointers,
    primitives,
    runner,
    scheduler,
    waits,
)
from wfe_postgres.host.delivery import Delivery
from wfe_postgres.host.executor import Executor
from wfe_postgres.host.pointers import EPOCH
from wfe_postgres.host.scheduler import Scheduler

Patch = pytest.MonkeyPatch
Run = runner._WorkflowRun


def nothing(*_: Any, **__: Any) -> None:
    """Does nothing."""


def delivers_again(patch: Patch) -> None:
    """A second wait gets the event that the first one has had."""
    for module in (executor, waits):
        patch.setattr(module, "received_before", lambda *_: set())


def delivers_once_a_workflow(patch: Patch) -> None:
    """Of two parallel waits, one gets the event."""

    def all_received(instance: Any, *_: Any) -> set[str]:
        return set().union(*map(pointers.received, instance.execution_pointers))

    for module in (executor, waits):
        patch.setattr(module, "received_before", all_received)


def looks_for_no_earlier_events(patch: Patch) -> None:
    """An event before the wait is not found."""
    patch.setattr(runner, "deliver_earlier_events", lambda provider, executor: False)


def looks_before_the_workflow(patch: Patch) -> None:
    """An event before the workflow is found."""
    original = Executor._subscribe
    patch.setattr(
        Executor, "_subscribe", lambda self, pointer, wait: original(self, pointer, replace(wait, as_of=EPOCH))
    )


def refuses_an_id_again(patch: Patch) -> None:
    """A webhook that comes twice raises."""

    def publish(self: Any, name: str, key: str, data: Any = None, *, event_id: str = "") -> str:
        return str(self.provider.create_event(Event(name, key, data, id=event_id, event_time=self.clock())))

    patch.setattr(WorkflowClient, "publish_event", publish)


def publishes_an_id_again(patch: Patch) -> None:
    """A webhook that comes twice is two events."""

    def publish(self: Any, name: str, key: str, data: Any = None, *, event_id: str = "") -> str:
        self.provider.create_event(Event(name, key, data, event_time=self.clock()))
        return event_id

    patch.setattr(WorkflowClient, "publish_event", publish)


def stops_at_a_waiter_that_is_gone(patch: Patch) -> None:
    """One waiter that is gone keeps the others from their event."""

    def remove(*_: Any) -> bool:
        raise RuntimeError("the waiter is gone")

    patch.setattr(Delivery, "_remove", remove)
    patch.setattr(Delivery, "_hand_over", Delivery._give)


def drops_what_a_claimed_workflow_cannot_take(patch: Patch) -> None:
    """An event during a step is lost."""
    patch.setattr(Delivery, "_schedule_again", Delivery._mark_processed)


def hands_over_the_latest(patch: Patch) -> None:
    """Does not ask for earlier events."""
    patch.setattr(Delivery, "_is_first", lambda self, event, waiters: True)


def removes_waiters_of_suspended_workflows(patch: Patch) -> None:
    """A suspended workflow loses its event."""
    patch.setattr(delivery, "UNFINISHED", (WorkflowStatus.RUNNABLE,))


def leaves_subscriptions(patch: Patch) -> None:
    """Whoever ends a wait leaves its subscription."""
    patch.setattr(Executor, "end_wait", nothing)


def forgets_the_id_of_the_event(patch: Patch) -> None:
    """The step is given an event without its id."""
    original = context.event_of

    def event_of(pointer: Any) -> Any:
        event = original(pointer)
        return event and replace(event, id="")

    patch.setattr(context, "event_of", event_of)


def does_not_wait(patch: Patch) -> None:
    """A delay goes on at once."""
    patch.setattr(primitives, "delay", lambda time: lambda context: ExecutionResult.next())


def loads_what_sleeps(patch: Patch) -> None:
    """Each poll loads every workflow."""
    original = Scheduler.poll

    def poll(self: Any) -> bool:
        for id in self._env.provider.get_runnable_instances(scheduler._END):
            self._env.provider.get_workflow_instance(id)
        return original(self)

    patch.setattr(Scheduler, "poll", poll)


def goes_on_after_persist(patch: Patch) -> None:
    """A step is not run again."""
    original = Executor.apply
    patch.setattr(
        Executor, "apply", lambda self, pointer, result: original(self, pointer, replace(result, proceeds=True))
    )


def puts_nothing(patch: Patch) -> None:
    """The data of events and children is dropped."""
    patch.setattr(primitives, "_put", nothing)


def rings_one_alarm_only(patch: Patch) -> None:
    """Jumps to the last alarm."""

    def last(self: Any) -> Any:
        ids = self._env.provider.get_runnable_instances(scheduler._END)
        times = [time for id in ids if (time := self._due_time(id)) > self._env.clock()]
        return max(times, default=None)

    patch.setattr(Scheduler, "next_alarm", last)


def runs_schedules_first(patch: Patch) -> None:
    """The main path waits for what is scheduled."""
    patch.setattr(primitives, "background", lambda context: primitives._once(context, True))


def recurs_once(patch: Patch) -> None:
    """Runs the branch of `recur` once."""
    patch.setattr(primitives, "recur", lambda interval, until: lambda context: primitives._once(context, True))


def carries_out_no_commands(patch: Patch) -> None:
    """Commands are removed without being carried out."""
    patch.setattr(Delivery, "carry_out", nothing)


def keeps_commands_for_nothing(patch: Patch) -> None:
    """A command for what does not exist fails each time."""

    def wake(self: Any, id: str) -> None:
        self._env.provider.get_workflow_instance(id)

    patch.setattr(Delivery, "_wake", wake)


def compensates_forwards(patch: Patch) -> None:
    """The first step is undone first."""
    patch.setattr(failures, "reversed", iter, raising=False)


def compensates_nothing(patch: Patch) -> None:
    """A saga does not notice a failure."""
    patch.setattr(failures, "_saga_around", lambda executor, pointer: None)


def compensates_always(patch: Patch) -> None:
    """A saga fails with the first try of a step."""
    patch.setattr(Retry, "delay", lambda self, retry: None)


def ignores_what_follows_a_saga(patch: Patch) -> None:
    """The workflow goes on after any saga that has failed."""
    original = primitives.saga
    patch.setattr(primitives, "saga", lambda fails: original(fails=False))


def passes_over_failed_compensation(patch: Patch) -> None:
    """A compensation that fails counts as done."""
    original = failures.fail

    def fail(executor: Executor, pointer: Any, error: BaseException) -> None:
        if failures._is_compensation(pointer):
            executor.complete(pointer)
            executor.settle()
        else:
            original(executor, pointer, error)

    patch.setattr(runner, "fail", fail)


def takes_the_first_case(patch: Patch) -> None:
    """Always decides for the first branch."""

    def decide(value: Any, cases: list[Any], *, otherwise: bool) -> Callable[[StepContext], ExecutionResult]:
        return lambda it: ExecutionResult.next() if it.persistence_data else _first_branch()

    patch.setattr(primitives, "decide", decide)


def _first_branch() -> ExecutionResult:
    return replace(ExecutionResult.branch([None], {"children_active": True}), branch_indices=(0,))


def loops_once(patch: Patch) -> None:
    """`while_do` is `if_do`."""
    patch.setattr(primitives, "while_do", primitives.if_do)


def takes_all_items_at_once(patch: Patch) -> None:
    """`for_each` ignores `parallel=False`."""
    patch.setattr(primitives, "for_each_in_turn", primitives.for_each)


def takes_items_in_turn(patch: Patch) -> None:
    """`for_each` ignores `parallel=True`."""
    patch.setattr(primitives, "for_each", primitives.for_each_in_turn)


def goes_on_after_one_branch(patch: Patch) -> None:
    """Does not wait for the other branches."""
    patch.setattr(primitives, "parallel", primitives.background)


def ends_no_branches(patch: Patch) -> None:
    """`end_workflow` leaves the other branches."""
    patch.setattr(primitives, "end_workflow", lambda context: ExecutionResult.next())


def ignores_how_a_child_ended(patch: Patch) -> None:
    """A child that was terminated counts as Complete."""
    patch.setattr(primitives, "WorkflowStatus", SimpleNamespace(COMPLETE=WorkflowStatus.TERMINATED))


def ignores_how_an_activity_ended(patch: Patch) -> None:
    """A failure counts as a result."""
    patch.setattr(primitives, "ActivityFailedError", _NothingError)
    original = primitives.activity
    patch.setattr(primitives, "activity", lambda *arguments: _forgiving(original(*arguments)))


class _NothingError(Exception):
    """Is ignored."""


def _forgiving(step: Callable[[StepContext], Any]) -> Callable[[StepContext], Any]:
    def run(context: StepContext) -> Any:
        try:
            return step(context)
        except _NothingError:
            return None

    return run


def polls_the_first_event_only(patch: Patch) -> None:
    """Gives an event to the first who waits."""
    original = Delivery._waiters
    patch.setattr(Delivery, "_waiters", lambda self, event: original(self, event)[:1])
