"""Suspending, resuming and terminating workflows that hosts are running at the same time."""

import random
import threading
from contextlib import suppress
from functools import partial

from tests.concurrency.support import run_in_threads
from tests.conftest import Sql
from wfe_postgres import ConcurrencyError, PointerStatus, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.testing.conformance.support import created, pointer, race, results, subscription, workflow

Provider = PostgresPersistenceProvider

HOSTS = 4
WORKFLOWS = 12


def run_steps(provider: Provider, ids: list[str], stop: threading.Event) -> None:
    """As a host does: load, add a pointer and a subscription, save under the revision."""
    rng = random.Random()
    while not stop.is_set():
        instance = provider.get_workflow_instance(rng.choice(ids))
        if instance.status is not WorkflowStatus.RUNNABLE:
            continue
        instance.execution_pointers.append(pointer(str(len(instance.execution_pointers))))
        waiting = subscription(id="", workflow_id=instance.id, step_id=len(instance.execution_pointers))
        with suppress(ConcurrencyError):
            provider.persist_workflow_with_subscriptions(instance, [waiting])


def test_terminated_workflow_keeps_no_subscription_of_a_running_host(provider: Provider, sql: Sql) -> None:
    """A save that was under way when the workflow was terminated is either before it, or refused."""
    ids = [provider.create_new_workflow(workflow(pointer("0"))) for _ in range(WORKFLOWS)]
    stop = threading.Event()

    def work(number: int) -> None:
        if number < HOSTS:
            return run_steps(provider, ids, stop)
        for id in ids:
            assert provider.terminate_workflow(id)
        stop.set()
        return None

    run_in_threads(HOSTS + 1, work)
    assert sql("SELECT status, count(*) FROM wfc.workflows GROUP BY 1") == [("Terminated", WORKFLOWS)]
    assert sql("SELECT count(*) FROM wfc.event_subscriptions") == [(0,)]


def test_terminate_waits_for_a_save_under_way_and_removes_its_subscription(provider: Provider, sql: Sql) -> None:
    """The save holds the row when the termination begins, and commits a subscription that was not there before."""
    instance = created(provider, workflow(pointer("0")))
    with provider.transaction() as tx:
        tx.persist_workflow_with_subscriptions(instance, [subscription(workflow_id=instance.id)])
        ended: list[bool] = []
        terminating = threading.Thread(target=lambda: ended.append(provider.terminate_workflow(instance.id)))
        terminating.start()
        while not sql("SELECT pid FROM pg_locks WHERE NOT granted"):
            assert terminating.is_alive()
    terminating.join(30)
    assert ended == [True]
    assert sql("SELECT count(*) FROM wfc.event_subscriptions") == [(0,)]


def test_resume_waits_for_a_save_under_way_and_readies_its_pointers(provider: Provider, sql: Sql) -> None:
    """The save holds the row when the resumption begins, and commits a failed pointer that was not there before."""
    instance = created(provider, workflow(pointer("0"), status=WorkflowStatus.SUSPENDED))
    with provider.transaction() as tx:
        instance.execution_pointers.append(pointer("failed", status=PointerStatus.FAILED))
        tx.persist_workflow(instance)
        ended: list[bool] = []
        resuming = threading.Thread(target=lambda: ended.append(provider.resume_workflow(instance.id)))
        resuming.start()
        while not sql("SELECT pid FROM pg_locks WHERE NOT granted"):
            assert resuming.is_alive()
    resuming.join(30)
    assert ended == [True]
    found = provider.get_workflow_instance(instance.id).execution_pointers
    assert [it.status for it in found] == [PointerStatus.PENDING] * 2


def test_one_of_many_suspends(provider: Provider) -> None:
    """Of concurrent calls exactly one returns True."""
    calls = (Provider.suspend_workflow, Provider.resume_workflow, Provider.terminate_workflow)
    for _ in range(10):
        workflow_id = provider.create_new_workflow(workflow())
        for call in calls:
            outcomes = results(race([partial(call, provider, workflow_id)] * 8))
            assert outcomes.count(True) == 1
