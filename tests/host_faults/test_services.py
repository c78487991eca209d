"""Locks, queues, publishers and middleware that fail: the host goes on, and no step is lost or run twice."""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, eventually, note, wait_at
from tests.host_faults.kit.local import errors_of, host_of, pointer_of, run
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.contract.services import LifecycleEvent, QueueType
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowDefinition
from wfe_postgres.testing import InMemoryLockProvider


class Locks(InMemoryLockProvider):
    """Locks in memory, which a test can take and break."""

    fails = False

    def acquire_lock(self, resource: str) -> bool:
        """See `DistributedLockProvider`."""
        if self.fails:
            raise ConnectionError("the lock service does not answer")
        return super().acquire_lock(resource)


class BrokenQueue:
    """A queue whose server is gone."""

    is_dequeue_blocking = True

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""
        raise ConnectionError("the queue does not answer")

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        """See `QueueProvider`."""
        raise ConnectionError("the queue does not answer")

    def start(self) -> None:
        """See `QueueProvider`."""

    def stop(self) -> None:
        """See `QueueProvider`."""


class LossyQueue(BrokenQueue):
    """A queue that loses everything."""

    is_dequeue_blocking = False

    def queue_work(self, id: str, queue: QueueType) -> None:
        """See `QueueProvider`."""

    def dequeue_work(self, queue: QueueType, *, timeout: float | None = None) -> str | None:
        """See `QueueProvider`."""
        return None


def work(context: StepContext) -> None:
    """A quick step."""
    note(context, "work")


def block(context: StepContext) -> None:
    """A step that lasts until the test ends it."""
    note(context, "block")
    context.data["blocked"] = True
    eventually(lambda: context.cancelled)


def break_off(context: StepContext) -> None:
    """A step that fails when it is cancelled."""
    block(context)
    raise RuntimeError("cancelled")


def gate(context: StepContext) -> None:
    """A step that lasts until the test opens the gate."""
    note(context, "gate")
    wait_at("gate")


TWO = WorkflowBuilder("two").start_with(work).then(work).build()
BLOCKED = WorkflowBuilder("blocked").start_with(block).then(work).build()
BROKEN_OFF = WorkflowBuilder("broken off", on_error=Retry(0)).start_with(break_off).then(work).build()
GATED = WorkflowBuilder("gated").start_with(gate).then(work).build()


def test_workflow_whose_lock_is_busy_is_run_when_the_lock_is_free(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    locks = Locks()
    with host_of(provider, TWO, lock=locks) as host:
        first, second = (host.start_workflow("two", name=name) for name in ("a", "b"))
        settled([first, second])
        busy = provider.get_workflow_instance(host_of(provider, TWO).start_workflow("two")).id
        InMemoryLockProvider(locks.holders).acquire_lock(busy)
        settled([host.start_workflow("two")])
    del locks.holders[busy]
    with host_of(provider, TWO, lock=locks):
        settled([busy])
    assert locks.holders == {}


def test_lock_is_held_while_steps_run_and_free_afterwards(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    locks = Locks()
    with host_of(provider, GATED, lock=locks) as host:
        id = host.start_workflow("gated")
        effects.wait_for("gate")
        assert set(locks.holders) == {id}
        effects.open("gate")
        settled([id])
        eventually(lambda: not locks.holders)


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("definition", [BLOCKED, BROKEN_OFF], ids=["returns", "raises"])
def test_step_whose_lock_was_lost_is_cancelled_and_nothing_of_it_is_saved(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    caplog: pytest.LogCaptureFixture,
    definition: WorkflowDefinition,
    transactional: bool,
) -> None:
    locks = Locks()
    transaction = provider.step_transactions(sessionmaker(provider.engine)) if transactional else None
    with host_of(provider, definition, lock=locks, lease=60.0, transaction=transaction) as host:
        id = host.start_workflow(definition.id)
        effects.wait_for("block")
        claimed = provider.get_workflow_instance(id)
        locks.holders.clear()
        eventually(lambda: [it for it in caplog.records if id in it.getMessage() and it.levelno == logging.WARNING])
    workflow = provider.get_workflow_instance(id)
    assert (workflow, workflow.revision) == (claimed, claimed.revision)
    assert errors_of(sql, workflow) == []
    assert effects.counts() == {"block": 1}


def test_host_goes_on_when_the_lock_service_fails_for_a_while(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    locks = Locks()
    locks.fails = True
    with host_of(provider, TWO, lock=locks) as host:
        ids = [host.start_workflow("two") for _ in range(3)]
        threading.Event().wait(0.3)
        locks.fails = False
        settled(ids)


@pytest.mark.parametrize("queue", [BrokenQueue(), LossyQueue()], ids=["broken", "lossy"])
def test_work_that_the_queue_lost_is_found_by_the_poll(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled, queue: Any
) -> None:
    definition = WorkflowBuilder("waits").start_with(work).wait_for("bell", key="k").then(work).build()
    with host_of(provider, definition, queue=queue) as host:
        ids = [host.start_workflow("waits") for _ in range(3)]
        effects.wait_for("work", 3)
        host.publish_event("bell", "k")
        settled(ids)


def fail(*_: object) -> NoReturn:
    """A callback with a mistake in it."""
    raise RuntimeError("a mistake")


def leave(*_: object) -> NoReturn:
    """A callback that ends the thread, if it is not kept from it."""
    sys.exit(1)


class Publisher:
    """A publisher that fails."""

    def __init__(self, body: Callable[..., object]) -> None:
        self._body = body

    def publish(self, event: LifecycleEvent) -> None:
        """See `LifecyclePublisher`."""
        self._body(event)

    def subscribe(self, callback: Callable[[LifecycleEvent], object]) -> None:
        """See `LifecyclePublisher`."""


@pytest.mark.parametrize("body", [fail, leave])
def test_publisher_and_callback_that_raise_stop_nothing(
    provider: PostgresPersistenceProvider,
    effects: Effects,
    settled: Settled,
    caplog: pytest.LogCaptureFixture,
    body: Callable[..., object],
) -> None:
    seen: list[str] = []
    with host_of(provider, TWO, lifecycle=Publisher(body), lease=60.0) as host:
        host.on(body)
        host.on(lambda event: seen.append(event.type.value))
        [workflow] = settled([host.start_workflow("two")])
        eventually(lambda: "Completed" in seen)
    assert effects.order() == ["work", "work"]
    assert provider.get_workflow_instance(workflow.id).status is WorkflowStatus.COMPLETE


def broken(place: str, body: Callable[..., Any]) -> WorkflowDefinition:
    """A definition that calls the body in this place."""
    builder = WorkflowBuilder(f"broken {place}", on_error=Retry(0, max_retries=1))
    if place == "key":
        builder.wait_for("bell", key=body)
    elif place == "into":
        builder.wait_for("bell", key="k", into=body)
    elif place == "condition":
        builder.while_do(body, lambda branch: branch.start_with(work))
    elif place == "items":
        builder.for_each(body, lambda branch: branch.start_with(work))
    else:
        builder.delay(body)
    return builder.then(gate).build()


@pytest.mark.parametrize("body", [fail, leave])
def test_callable_of_a_definition_that_raises_fails_its_step(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, body: Callable[..., Any]
) -> None:
    definitions = [broken(place, body) for place in ("key", "into", "condition", "items", "time")]
    host = host_of(provider, *definitions)
    ids = [host.start_workflow(it.id) for it in definitions]
    host.publish_event("bell", "k")
    host.run_until_idle()
    for workflow in provider.get_workflow_instances(ids):
        assert workflow.status is WorkflowStatus.SUSPENDED, workflow.workflow_definition_id
        assert len(errors_of(sql, workflow)) == 2, workflow.workflow_definition_id
    assert effects.order() == []


@pytest.mark.parametrize("body", [fail, leave])
def test_middleware_that_raises_fails_the_step(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, body: Callable[..., Any]
) -> None:
    definition = WorkflowBuilder("broken", on_error=Retry(0, max_retries=1)).start_with(work).build()
    workflow = run(provider, definition, middleware=[body])
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert len(errors_of(sql, workflow)) == 2
    assert effects.order() == []


def test_middleware_that_swallows_a_failure_completes_the_step(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    def swallow(context: StepContext, call_next: Callable[[StepContext], Any]) -> Any:
        try:
            return call_next(context)
        except SystemExit:
            return None

    definition = WorkflowBuilder("swallowed").start_with(leave).then(work).build()
    workflow = run(provider, definition, middleware=[swallow])
    assert workflow.status is WorkflowStatus.COMPLETE
    assert pointer_of(workflow, "leave").retry_count == 0
    assert errors_of(sql, workflow) == []
