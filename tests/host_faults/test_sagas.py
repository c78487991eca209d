"""Compensation under faults: in reverse order, each step once, with the same promises as any other step."""

import os
import random
import signal
import time

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, eventually, note, note_in_transaction, times_of
from tests.host_faults.kit.local import errors_of, host_of, pointer_of, run
from wfe_postgres import PointerStatus, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, Terminate, WorkflowBuilder, WorkflowDefinition

TRIPS = runs(16, 200)
KILLS = runs(5, 80)
LEASE = 0.6


def flight(context: StepContext) -> None:
    """Is compensated last."""
    note_in_transaction(context, "flight")


def cancel_flight(context: StepContext) -> None:
    """Undoes it."""
    note_in_transaction(context, "cancel flight")
    time.sleep(random.uniform(0.0, 0.02))


def hotel(context: StepContext) -> None:
    """Is compensated first."""
    note_in_transaction(context, "hotel")


def cancel_hotel(context: StepContext) -> None:
    """Undoes it; fails now and then."""
    note_in_transaction(context, "cancel hotel")
    if random.random() < 0.3:
        raise RuntimeError("the hotel does not answer")


def pay(context: StepContext) -> None:
    """Fails for good."""
    note(context, "pay")
    raise RuntimeError("declined")


def tell(context: StepContext) -> None:
    """Follows the saga."""
    note_in_transaction(context, "tell")


def trip() -> WorkflowDefinition:
    """A saga that fails, and a step after it."""
    return (
        WorkflowBuilder("trip", on_error=Retry(0.01, max_retries=None))
        .saga(
            lambda saga: (
                saga.start_with(flight, compensate_with=cancel_flight)
                .then(hotel, compensate_with=cancel_hotel)
                .then(pay, on_error=Retry(0, max_retries=1))
            )
        )
        .then(tell)
        .build()
    )


def test_compensation_is_done_once_and_in_reverse_order_when_hosts_are_killed(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    chance = random.Random(2)
    hosts = [start_host(trip, transactional=True, lease=LEASE) for _ in range(2)]
    client = host_of(provider, trip())
    ids = [client.start_workflow("trip") for _ in range(TRIPS)]
    for _ in range(KILLS):
        effects.wait_for_more(2)
        time.sleep(chance.uniform(0.0, 0.2))
        victim = chance.randrange(2)
        hosts[victim].kill()
        hosts[victim] = start_host(trip, transactional=True, lease=LEASE)
    settled(ids, timeout=runs(40, 600))
    for id in ids:
        committed = [it for it in effects.order(id) if it != "pay"]
        assert committed == ["flight", "hotel", "cancel hotel", "cancel flight", "tell"]
        assert effects.counts(id)["pay"] >= 2


def book(context: StepContext) -> None:
    """Completes."""
    note(context, "book")


def cancel(context: StepContext) -> None:
    """Fails until the test opens the gate."""
    note(context, "cancel")
    if times_of(context, "cancel") <= 2:
        raise SystemExit("no connection")


def die(context: StepContext) -> None:
    """Kills the process that compensates."""
    note(context, "die")
    os.kill(os.getpid(), signal.SIGKILL)


def test_compensation_that_fails_for_good_suspends_the_workflow_and_is_run_again_when_resumed(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    definition = (
        WorkflowBuilder("trip", on_error=Retry(0, max_retries=1))
        .saga(lambda saga: saga.start_with(book, compensate_with=cancel).then(pay, on_error=Retry(0, max_retries=0)))
        .then(book)
        .build()
    )
    workflow = run(provider, definition)
    assert effects.order() == ["book", "pay", "cancel", "cancel"]
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert sum("SystemExit" in it for it in errors_of(sql, workflow)) == 2
    host = host_of(provider, definition)
    assert host.resume_workflow(workflow.id)
    host.run_until_idle()
    workflow = provider.get_workflow_instance(workflow.id)
    assert effects.counts()["cancel"] == 3
    assert PointerStatus.FAILED not in {it.status for it in workflow.execution_pointers} or (
        workflow.status is not WorkflowStatus.COMPLETE
    )


def deadly_saga() -> WorkflowDefinition:
    """A saga whose compensation kills the process."""
    return (
        WorkflowBuilder("deadly", on_error=Retry(0, max_retries=0))
        .saga(lambda saga: saga.start_with(book, compensate_with=die).then(pay))
        .then(book)
        .build()
    )


def test_compensation_that_kills_its_process_fails_after_five_lost_tries(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost
) -> None:
    id = host_of(provider, deadly_saga()).start_workflow("deadly")
    hosts = [start_host(deadly_saga, lease=LEASE)]

    def rests() -> bool:
        if not hosts[-1].is_alive:
            hosts.append(start_host(deadly_saga, lease=LEASE))
        return provider.get_workflow_instance(id).status is not WorkflowStatus.RUNNABLE

    eventually(rests)
    assert effects.order() == ["book", "pay"] + ["die"] * 5
    assert provider.get_workflow_instance(id).status is WorkflowStatus.SUSPENDED


def test_saga_that_terminates_does_so_after_its_compensation(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    def undo(context: StepContext) -> None:
        note(context, "undo")

    definition = (
        WorkflowBuilder("trip", on_error=Retry(0, max_retries=0))
        .saga(lambda saga: saga.start_with(book, compensate_with=undo).then(pay), on_error=Terminate())
        .then(book)
        .build()
    )
    workflow = run(provider, definition)
    assert effects.order() == ["book", "pay", "undo"]
    assert workflow.status is WorkflowStatus.TERMINATED
    assert pointer_of(workflow, "book").status is PointerStatus.COMPENSATED


def test_saga_that_is_retried_begins_again_after_its_compensation(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    def undo(context: StepContext) -> None:
        note(context, "undo")

    def pay_at_second(context: StepContext) -> None:
        note(context, "pay")
        if times_of(context, "pay") == 1:
            raise GeneratorExit

    definition = (
        WorkflowBuilder("trip", on_error=Retry(0, max_retries=0))
        .saga(
            lambda saga: saga.start_with(book, compensate_with=undo).then(pay_at_second),
            on_error=Retry(0, max_retries=2),
        )
        .build()
    )
    workflow = run(provider, definition)
    assert effects.order() == ["book", "pay", "undo", "book", "pay"]
    assert workflow.status is WorkflowStatus.COMPLETE
