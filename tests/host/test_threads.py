"""A host in threads, on the in-memory provider."""

import threading
import time

import pytest

from tests.provider.databases import wait_until
from wfe_postgres import WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryLockProvider, InMemoryPersistenceProvider, InMemoryQueueProvider

LEASE = 0.6


def wait_until_open(gate: threading.Event, id: str) -> WorkflowBuilder:
    """A workflow of a step that ends when the gate opens."""

    def wait(context: StepContext) -> None:
        context.data["runs"] = context.data.get("runs", 0) + 1
        gate.wait(30)

    return WorkflowBuilder(id).then(wait)


def test_host_that_gave_up_and_was_started_again_renews_its_leases() -> None:
    first, second, provider = threading.Event(), threading.Event(), InMemoryPersistenceProvider()
    definitions = [wait_until_open(first, "w").build(), wait_until_open(second, "v").build()]
    host, other = (WorkflowHost(provider, definitions, lease=LEASE, poll_interval=0.02) for _ in range(2))
    host.start_workflow("w")
    host.start()
    time.sleep(0.2)
    host.stop(timeout=0)
    first.set()
    with host:
        id = host.start_workflow("v")
        time.sleep(0.2)
        with other:
            time.sleep(3 * LEASE)
            second.set()
            instance = host.wait_for_workflow(id, timeout=10)
    assert instance.status is WorkflowStatus.COMPLETE
    assert "lost_tries" not in instance.execution_pointers[0].extension_attributes
    assert provider.get_execution_errors() == []


def test_two_hosts_with_one_queue_and_one_lock_service_share_the_work() -> None:
    provider, queue, locks = InMemoryPersistenceProvider(), InMemoryQueueProvider(), InMemoryLockProvider()
    definition = WorkflowBuilder("w").then(lambda c: c.data.update(runs=c.data.get("runs", 0) + 1)).build()
    hosts = [
        WorkflowHost(provider, [definition], queue=queue, lock=lock, poll_interval=60)
        for lock in (locks, InMemoryLockProvider(locks.holders))
    ]
    with hosts[0], hosts[1]:
        ids = [hosts[0].start_workflow("w") for _ in range(20)]
        found = [hosts[1].wait_for_workflow(id, timeout=10) for id in ids]
    assert [instance.data for instance in found] == [{"runs": 1}] * 20
    assert locks.holders == {}


def test_waiting_for_a_workflow_ends_at_the_timeout() -> None:
    host = WorkflowHost(InMemoryPersistenceProvider(), [WorkflowBuilder("w").delay(60).build()])
    with pytest.raises(TimeoutError, match="is still Runnable"):
        host.wait_for_workflow(host.start_workflow("w"), timeout=0.05)


def of_this_host(before: set[threading.Thread]) -> list[str]:
    """The names of the threads that have begun since."""
    return [it.name for it in set(threading.enumerate()) - before]


def test_host_without_a_running_step_has_no_thread_once_it_is_idle_or_was_stopped() -> None:
    """Neither of those that it started, nor the one that watches for long steps."""
    before = set(threading.enumerate())
    names: list[str] = []
    definition = WorkflowBuilder("w").then(lambda _: names.extend(of_this_host(before))).build()
    host = WorkflowHost(InMemoryPersistenceProvider(), [definition], threads=1, poll_interval=0.02)
    host.start_workflow("w")
    host.run_until_idle()
    assert (names, of_this_host(before)) == (["wfe-leases"], [])
    with host:
        host.wait_for_workflow(host.start_workflow("w"), timeout=10)
    assert sorted(names[1:]) == ["wfe-leases", "wfe-poll", "wfe-worker-0"]
    assert of_this_host(before) == []


def test_host_that_is_interrupted_in_a_step_leaves_no_thread() -> None:
    before = set(threading.enumerate())

    def interrupt(_: StepContext) -> None:
        raise KeyboardInterrupt

    host = WorkflowHost(InMemoryPersistenceProvider(), [WorkflowBuilder("w").then(interrupt).build()])
    host.start_workflow("w")
    with pytest.raises(KeyboardInterrupt):
        host.run_until_idle()
    assert of_this_host(before) == []


def test_host_that_gave_up_has_no_thread_once_its_step_has_ended() -> None:
    before, gate = set(threading.enumerate()), threading.Event()
    host = WorkflowHost(InMemoryPersistenceProvider(), [wait_until_open(gate, "w").build()], lease=600)
    host.start_workflow("w")
    host.start()
    wait_until(lambda: "wfe-leases" in of_this_host(before))
    host.stop(timeout=0)
    gate.set()
    wait_until(lambda: of_this_host(before) == [])
