"""Hosts with a queue on PostgreSQL: work begins long before the next poll, and hosts at rest send next to nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, eventually, note, wait_at
from tests.host_faults.kit.local import host_of
from tests.provider.databases import statements_of
from tests.services.conftest import only_told
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.contract.services import LifecycleEvent, QueueProvider, QueueType
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.services import PostgresQueueProvider

__all__ = ["only_told"]

FAR = 600.0
"""A poll interval that no test waits for."""
WAYS = ["session", "connection", "psycopg"]


def work(context: StepContext) -> None:
    """A quick step."""
    note(context, "work")


def gate(context: StepContext) -> None:
    """A step that lasts until the test opens the gate."""
    note(context, "gate")
    wait_at("gate")


WAITS = WorkflowBuilder("waits").start_with(work).wait_for("bell", key="k").then(work).build()
QUICK = WorkflowBuilder("quick").start_with(work).build()
GATED = WorkflowBuilder("gated").start_with(gate).build()


@pytest.fixture
def queue(database_url: str) -> Iterator[PostgresQueueProvider]:
    """The queue of the hosts under test."""
    with PostgresQueueProvider(database_url) as queue:
        yield queue


@pytest.fixture
def client(provider: PostgresPersistenceProvider, database_url: str) -> Iterator[WorkflowHost]:
    """A host that is not started, as in another process, with a provider of the same queue."""
    with PostgresQueueProvider(database_url) as queue:
        yield host_of(provider, WAITS, QUICK, GATED, queue=queue)


@contextmanager
def at_rest(provider: PostgresPersistenceProvider, queue: QueueProvider | None, **options: Any) -> Iterator[Any]:
    """A host that has polled, and will not poll again during the test."""
    with host_of(provider, WAITS, QUICK, GATED, queue=queue, poll_interval=FAR, **options) as host:
        time.sleep(1)
        yield host


@contextmanager
def transaction(provider: PostgresPersistenceProvider, url: str, way: str) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A transaction of an application's, and what commits it."""
    if way == "psycopg":
        with psycopg.connect(url) as driver:
            yield driver, driver.commit
    elif way == "connection":
        with provider.engine.connect() as connection:
            yield connection, connection.commit
    else:
        with Session(provider.engine) as session:
            yield session, session.commit


@pytest.mark.usefixtures("only_told")
def test_started_workflow_and_published_event_reach_a_host_at_rest(
    provider: PostgresPersistenceProvider,
    queue: PostgresQueueProvider,
    client: WorkflowHost,
    effects: Effects,
    settled: Settled,
) -> None:
    with at_rest(provider, queue):
        id = client.start_workflow("waits")
        effects.wait_for("work")
        eventually(lambda: provider.get_workflow_instance(id).execution_pointers[1].event_name)
        client.publish_event("bell", "k")
        settled([id], timeout=20)


@pytest.mark.usefixtures("only_told")
@pytest.mark.parametrize("way", WAYS)
def test_what_a_transaction_starts_publishes_and_resumes_reaches_a_host_at_its_commit(
    provider: PostgresPersistenceProvider,
    queue: PostgresQueueProvider,
    client: WorkflowHost,
    effects: Effects,
    settled: Settled,
    database_url: str,
    way: str,
) -> None:
    with at_rest(provider, queue):
        resumed = client.start_workflow("waits")
        effects.wait_for("work")
        eventually(lambda: client.suspend_workflow(resumed))
        with transaction(provider, database_url, way) as (given, commit):
            inside = client.using(given)
            started = inside.start_workflow("quick")
            inside.publish_event("bell", "k")
            assert inside.resume_workflow(resumed)
            time.sleep(0.3)
            assert effects.counts() == {"work": 1}
            commit()
            settled([started, resumed], timeout=20)


@pytest.mark.parametrize("way", WAYS)
def test_transaction_that_is_rolled_back_queues_and_publishes_nothing(
    provider: PostgresPersistenceProvider, client: WorkflowHost, sql: Sql, database_url: str, way: str
) -> None:
    told: list[LifecycleEvent] = []
    client.on(told.append)
    with transaction(provider, database_url, way) as (given, _):
        client.using(given).start_workflow("quick")
        given.rollback()
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]
    assert told == []


def test_host_at_rest_sends_its_poll_and_nothing_else(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    """Three queries a poll, and one of the queue's for each type now and then."""
    queue = PostgresQueueProvider.from_engine(provider.engine)
    with host_of(provider, QUICK, queue=queue, poll_interval=0.3) as host:
        settled([host.start_workflow("quick")])
        time.sleep(5)  # for 3.5 seconds after it has found something, it looks again at ever longer intervals
        with statements_of(provider.engine) as sent:
            time.sleep(3)
    assert 3 * 5 <= len(sent) <= 3 * 11 + 2


def test_host_takes_from_the_queue_what_it_can_begin(
    provider: PostgresPersistenceProvider,
    queue: PostgresQueueProvider,
    client: WorkflowHost,
    effects: Effects,
    settled: Settled,
    sql: Sql,
    database_url: str,
) -> None:
    """The rest is there for other hosts."""
    with at_rest(provider, queue, threads=2):
        ids = [client.start_workflow("gated") for _ in range(20)]
        effects.wait_for("gate", 2)
        time.sleep(0.5)
        [(left,)] = sql("SELECT count(*) FROM wfc.work_queue")
        assert 14 <= left <= 16
        with PostgresQueueProvider(database_url) as others, at_rest(provider, others, threads=20):
            effects.open("gate")
            settled(ids, timeout=20)


def test_stop_does_not_wait_for_a_queue_that_is_waiting(
    provider: PostgresPersistenceProvider, queue: PostgresQueueProvider
) -> None:
    with at_rest(provider, queue) as host:
        before = [it.name for it in threading.enumerate()]
        began = time.monotonic()
        host.stop()
        assert time.monotonic() - began < 5
    assert "wfe_postgres-listen" in before
    assert "wfe_postgres-listen" not in [it.name for it in threading.enumerate()]


def test_id_of_what_cannot_be_done_is_taken_and_keeps_nobody_from_anything(
    provider: PostgresPersistenceProvider,
    queue: PostgresQueueProvider,
    client: WorkflowHost,
    effects: Effects,
    settled: Settled,
) -> None:
    with at_rest(provider, queue):
        for type in (QueueType.WORKFLOW, QueueType.EVENT):
            queue.queue_work("gone", type)
        settled([client.start_workflow("quick")], timeout=20)
        eventually(lambda: queue.dequeue_work(QueueType.EVENT) is None)
    assert not [it for it in provider.find_workflows().items if it.status is not WorkflowStatus.COMPLETE]
