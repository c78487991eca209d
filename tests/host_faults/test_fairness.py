"""Several workflows at a time: as many as there are threads, none at the expense of others."""

import threading
import time

import pytest

from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, note, wait_at
from tests.host_faults.kit.local import host_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder


def block(context: StepContext) -> None:
    """Lasts until the test ends it."""
    note(context, "block")
    wait_at("gate")


def work(context: StepContext) -> None:
    """A quick step."""
    note(context, f"work {context.item}" if context.item else "work")


QUICK = WorkflowBuilder("quick").start_with(work).then(work).build()
BLOCKED = WorkflowBuilder("blocked").start_with(block).build()
EACH = (
    WorkflowBuilder("each")
    .for_each(lambda context: list("abcdef"), lambda branch: branch.start_with(work))
    .then(work)
    .build()
)


def test_long_step_keeps_no_other_workflow_from_its_turn(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    with host_of(provider, QUICK, BLOCKED, threads=2) as host:
        blocked = host.start_workflow("blocked")
        effects.wait_for("block")
        settled([host.start_workflow("quick") for _ in range(10)])
        effects.open("gate")
        settled([blocked])


def test_ready_pointers_of_a_workflow_are_run_in_their_order(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    with host_of(provider, EACH, threads=4) as host:
        settled([host.start_workflow("each")])
    assert effects.order() == [f"work {item}" for item in "abcdef"] + ["work"]


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_steps_run_at_a_time_than_there_are_threads(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled, threads: int
) -> None:
    lock = threading.Lock()
    running = [0, 0]

    def count(context: StepContext) -> None:
        with lock:
            running[0] += 1
            running[1] = max(running)
        time.sleep(0.05)
        with lock:
            running[0] -= 1

    definition = WorkflowBuilder("counted").start_with(count).then(count).build()
    with host_of(provider, definition, threads=threads) as host:
        settled([host.start_workflow("counted") for _ in range(8)])
    assert running == [0, threads]
