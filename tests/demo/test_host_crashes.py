"""The host, cut off at every call that it makes, before it and after it: another one takes over, effects count once."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pytest

from wfe_postgres import (
    EventSubscription,
    PersistenceProvider,
    PointerStatus,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.demo.definitions import ALWAYS, Branch, Context, Definition, Delay, Next, Outcome, WaitFor
from wfe_postgres.demo.host import Host
from wfe_postgres.testing import InMemoryPersistenceProvider

TIMEOUT = 10.0
COMMAND_LEASE = 0.01
EXPECTED = Counter(["start", "a", "b", "early bell", "late bell", "nap", "end"])


class Killed(BaseException):
    """As kill -9: no host catches it."""


class Journal(InMemoryPersistenceProvider):
    """A store that notes each effect at the save that brings it, so that one undone and redone counts twice."""

    def __init__(self) -> None:
        super().__init__(command_lease=COMMAND_LEASE)
        self.effects: Counter[str] = Counter()

    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        """Note what is new."""
        before = Counter(self.get_workflow_instance(instance.id).data["effects"])
        super().persist_workflow_with_subscriptions(instance, subscriptions)
        self.effects += Counter(instance.data["effects"]) - before


class Interrupted:
    """A provider whose `at`-th call is cut off by `blow`, before it takes place or `after`."""

    def __init__(self, provider: PersistenceProvider, at: int, after: bool, blow: Callable[[], None]) -> None:
        self._provider = provider
        self._left = at
        self._after = after
        self._blow = blow

    @property
    def survived(self) -> bool:
        """Whether there were not so many calls."""
        return self._left > 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._provider, name)

        def call(*arguments: Any) -> Any:
            self._left -= 1
            strikes = self._left == 0
            if strikes and not self._after:
                self._blow()
            result = method(*arguments)
            if strikes and self._after:
                self._blow()
            return result

        return call


def leave(context: Context, effect: str) -> None:
    """The step's effect."""
    context.data["effects"].append(effect)


def start(context: Context) -> Outcome:
    """Fails once."""
    leave(context, "start")
    if context.pointer.retry_count == 0:
        raise RuntimeError("not at the first time")
    return Next()


def fan_out(context: Context) -> Outcome:
    """Two branches."""
    return Branch(branch, ["a", "b"])


def branch(context: Context) -> Outcome:
    """One branch."""
    leave(context, context.item)
    return Next()


def hear_early(context: Context) -> Outcome:
    """Waits for what was there from the beginning."""
    return hear(context, "early bell")


def hear_late(context: Context) -> Outcome:
    """Waits for what is published when it waits."""
    return hear(context, "late bell")


def hear(context: Context, name: str) -> Outcome:
    """Waits for the event."""
    if not context.pointer.event_published:
        return WaitFor(name, context.workflow.id)
    leave(context, name)
    return Next()


def nap(context: Context) -> Outcome:
    """A delay."""
    leave(context, "nap")
    return Delay(0.002)


def end(context: Context) -> Outcome:
    """The last step."""
    leave(context, "end")
    return Next()


DEFINITION = Definition("all", 1, (start, fan_out, hear_early, hear_late, nap, end), (branch,))


def host_on(provider: PersistenceProvider) -> Host:
    """A host whose leases are over at once, so that anybody may take over at any time."""
    return Host(provider, [DEFINITION], lease=0.0, retry_delay=0.001)


def play(host: Host, id: str, store: PersistenceProvider) -> None:
    """Poll until the workflow is complete; ring the late bell, once in its life, when it waits for that."""
    deadline = time.monotonic() + TIMEOUT
    while (workflow := store.get_workflow_instance(id)).status != WorkflowStatus.COMPLETE:
        assert time.monotonic() < deadline, [str(pointer) for pointer in workflow.execution_pointers]
        if waits_for_the_late_bell(workflow) and not store.get_events_since("late bell", id, ALWAYS):
            host_on(store).publish("late bell", id, "ding")
        host.poll()


def waits_for_the_late_bell(workflow: WorkflowInstance) -> bool:
    """Whether it is time to ring."""
    return any(
        pointer.event_name == "late bell" and pointer.status == PointerStatus.WAITING_FOR_EVENT
        for pointer in workflow.execution_pointers
    )


def new_workflow(store: PersistenceProvider) -> str:
    """A workflow that is due, and its early event."""
    host = host_on(store)
    id = host.start(DEFINITION, {"effects": []})
    store.mark_event_processed(host.publish("early bell", id, "ding"))
    return id


def assert_that_all_counts_once(store: Journal, id: str) -> None:
    """Every effect is there, none twice, and nobody is left waiting."""
    workflow = store.get_workflow_instance(id)
    assert Counter(workflow.data["effects"]) == EXPECTED == store.effects
    store.effects.clear()
    names = [pointer.step_name for pointer in workflow.execution_pointers]
    assert sorted(map(str, names)) == ["branch", "branch", "end", "fan_out", "hear_early", "hear_late", "nap", "start"]
    assert {pointer.status for pointer in workflow.execution_pointers} == {PointerStatus.COMPLETE}


def run_with_blows(store: Journal, after: bool, blow: Callable[[PersistenceProvider, str], None]) -> int:
    """Run a workflow once for each call that a host makes, and cut the host off at that call; say how many calls."""
    at = 0
    while True:
        at += 1
        id = new_workflow(store)
        provider = Interrupted(store, at, after, partial(blow, store, id))
        with suppress(Killed):
            play(host_on(cast(PersistenceProvider, provider)), id, store)
        play(host_on(store), id, store)
        assert_that_all_counts_once(store, id)
        if provider.survived:
            return at - 1


def kill(store: PersistenceProvider, id: str) -> None:
    """The host is gone."""
    raise Killed


@pytest.mark.parametrize("after", [False, True])
def test_a_host_that_is_killed_at_any_call(after: bool) -> None:
    assert run_with_blows(Journal(), after, kill) > 50


def overtake(store: PersistenceProvider, id: str) -> None:
    """The host stands still while another does all that is left to do."""
    play(host_on(store), id, store)


@pytest.mark.parametrize("after", [False, True])
def test_a_host_that_is_overtaken_at_any_call(after: bool) -> None:
    assert run_with_blows(Journal(), after, overtake) > 50
