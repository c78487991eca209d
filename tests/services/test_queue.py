"""The queue on PostgreSQL: transactions of the caller, notifications, and what a waiting thread sends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.protocol.proxy import Proxy
from tests.provider.databases import statements_of
from tests.services.conftest import MakeQueue
from wfe_postgres import PersistenceError, SerializationError
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider, queue_waits
from wfe_postgres.testing.conformance.queues import waiting

WORKFLOW, EVENT = QueueType.WORKFLOW, QueueType.EVENT
WAYS = ["session", "connection", "psycopg"]


@contextmanager
def transaction(queue: PostgresQueueProvider, url: str, way: str) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A transaction of an application's, and what commits it."""
    if way == "psycopg":
        with psycopg.connect(url) as driver:
            yield driver, driver.commit
            driver.rollback()
    elif way == "connection":
        with queue.engine.connect() as connection:
            yield connection, connection.commit
    else:
        with Session(queue.engine) as session:
            yield session, session.commit


@contextmanager
def notified(url: str, channel: str) -> Iterator[Callable[[], list[str]]]:
    """What was notified since the last call."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'LISTEN "{channel}"')
        yield lambda: [it.payload for it in connection.notifies(timeout=0.3)]


@pytest.mark.parametrize("way", WAYS)
def test_id_that_a_transaction_queues_can_be_taken_after_its_commit(
    make_queue: MakeQueue, database_url: str, way: str
) -> None:
    queue = make_queue()
    with transaction(queue, database_url, way) as (given, commit):
        queue.using(given).queue_work("w1", WORKFLOW)
        assert queue.dequeue_work(WORKFLOW) is None
        commit()
        assert queue.dequeue_work(WORKFLOW) == "w1"


@pytest.mark.parametrize("way", WAYS)
def test_id_that_a_transaction_queues_is_gone_with_its_rollback(
    make_queue: MakeQueue, database_url: str, sql: Sql, way: str
) -> None:
    queue = make_queue()
    with transaction(queue, database_url, way) as (given, _):
        queue.using(given).queue_work("w1", WORKFLOW)
        given.rollback()
    assert queue.dequeue_work(WORKFLOW) is None
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]


@pytest.mark.usefixtures("only_told")
@pytest.mark.parametrize("way", WAYS)
def test_thread_that_waits_is_woken_by_the_commit(make_queue: MakeQueue, database_url: str, way: str) -> None:
    queue = make_queue()
    found = waiting(make_queue(poll_interval=30.0), 30)
    time.sleep(0.5)
    with transaction(queue, database_url, way) as (given, commit):
        queue.using(given).queue_work("w1", WORKFLOW)
        began = time.monotonic()
        commit()
        assert found() == "w1"
    assert time.monotonic() - began < 10


def test_id_that_is_taken_while_a_transaction_queues_it_is_there_after_the_commit(
    make_queue: MakeQueue, database_url: str
) -> None:
    """Whoever took it has not seen what the transaction changes."""
    queue = make_queue()
    queue.queue_work("w1", WORKFLOW)
    with transaction(queue, database_url, "connection") as (given, commit):
        queue.using(given).queue_work("w1", WORKFLOW)
        assert queue.dequeue_work(WORKFLOW) == "w1"
        assert queue.dequeue_work(WORKFLOW) is None
        commit()
    assert [queue.dequeue_work(WORKFLOW) for _ in range(2)] == ["w1", None]


def test_transactions_that_queue_the_same_ids_do_not_wait_for_each_other(
    make_queue: MakeQueue, database_url: str, sql: Sql
) -> None:
    """Nor do those that queue and take it elsewhere; it is there once all the same."""
    queue = make_queue(connect_args={"options": "-c lock_timeout=1000"})
    with (
        transaction(queue, database_url, "connection") as (first, commit_first),
        transaction(queue, database_url, "connection") as (second, commit_second),
    ):
        for id in ("a", "b"):
            queue.using(first).queue_work(id, WORKFLOW)
        for id in ("b", "a"):
            queue.using(second).queue_work(id, WORKFLOW)
        queue.queue_work("a", WORKFLOW)
        commit_second()
        commit_first()
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(5,)]
    assert [queue.dequeue_work(WORKFLOW) for _ in range(3)] == ["a", "b", None]
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]


def test_row_that_somebody_is_taking_is_passed_over_with_all_rows_of_its_id(
    make_queue: MakeQueue, database_url: str, sql: Sql
) -> None:
    queue = make_queue(connect_args={"options": "-c lock_timeout=1000"})
    for id in ("a", "a", "b"):
        sql("INSERT INTO wfc.work_queue (queue, id) VALUES ('Workflow', %s)", [id])
    with psycopg.connect(database_url) as taker:
        taker.execute("SELECT FROM wfc.work_queue ORDER BY position LIMIT 1 FOR UPDATE")
        assert [queue.dequeue_work(WORKFLOW) for _ in range(2)] == ["b", None]
        taker.rollback()
    assert [queue.dequeue_work(WORKFLOW) for _ in range(2)] == ["a", None]


@pytest.mark.parametrize("way", WAYS)
def test_transaction_notifies_once_for_each_type(make_queue: MakeQueue, database_url: str, way: str) -> None:
    queue = make_queue()
    with notified(database_url, queue.channel) as payloads, transaction(queue, database_url, way) as (given, commit):
        for number in range(20):
            queue.using(given).queue_work(f"w{number}", WORKFLOW)
            queue.using(given).queue_work(f"e{number}", EVENT)
        assert payloads() == []
        commit()
        assert sorted(payloads()) == ["Event", "Workflow"]


def test_nobody_is_notified_while_another_id_waits(make_queue: MakeQueue, database_url: str) -> None:
    queue = make_queue()
    with notified(database_url, queue.channel) as payloads:
        for id in ("a", "b", "c", "a"):
            queue.queue_work(id, WORKFLOW)
        queue.queue_work("a", EVENT)
        assert payloads() == ["Workflow", "Event"]
        while queue.dequeue_work(WORKFLOW):
            pass
        queue.queue_work("a", WORKFLOW)
        assert payloads() == ["Workflow"]


@pytest.mark.parametrize("way", WAYS)
def test_queue_without_notify_notifies_nobody_and_does_not_listen(
    make_queue: MakeQueue, database_url: str, sql: Sql, way: str
) -> None:
    queue = make_queue(notify=False, poll_interval=0.05)
    queue.start()
    found = waiting(queue, 30)
    with notified(database_url, queue.channel) as payloads, transaction(queue, database_url, way) as (given, commit):
        queue.using(given).queue_work("w1", WORKFLOW)
        commit()
        assert found() == "w1"
        queue.queue_work("w2", WORKFLOW)
        assert payloads() == []
    assert "wfe_postgres-listen" not in [it.name for it in threading.enumerate()]


def test_waiting_sends_no_query_but_the_poll(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often `dequeue_work` is called, and whatever is queued for others."""
    monkeypatch.setattr(queue_waits, "SAFETY_INTERVAL", 1.0)
    queue = make_queue()
    queue.queue_work("w1", WORKFLOW)
    assert queue.dequeue_work(WORKFLOW, timeout=30) == "w1"
    queue.dequeue_work(WORKFLOW, timeout=2)
    with statements_of(queue.engine) as sent:
        for _ in range(30):
            assert queue.dequeue_work(WORKFLOW, timeout=0.1) is None
    assert 2 <= len(sent) <= 4


def test_after_something_was_found_the_queue_is_looked_at_again_soon(make_queue: MakeQueue, sql: Sql) -> None:
    """For what was queued without a notification while another id waited, and committed when that one was taken."""
    queue = make_queue(poll_interval=30.0)
    assert queue.dequeue_work(WORKFLOW, timeout=0.5) is None
    queue.queue_work("w1", WORKFLOW)
    assert queue.dequeue_work(WORKFLOW, timeout=30) == "w1"
    assert queue.dequeue_work(WORKFLOW, timeout=0.01) is None
    sql("INSERT INTO wfc.work_queue (queue, id) VALUES ('Workflow', 'w2')")
    began = time.monotonic()
    assert queue.dequeue_work(WORKFLOW, timeout=30) == "w2"
    assert time.monotonic() - began < 10


def test_queue_and_dequeue_are_one_statement_in_one_round_trip(database_url: str) -> None:
    with Proxy(database_url) as proxy, PostgresQueueProvider(proxy.url) as queue:
        queue.dequeue_work(EVENT)  # connects
        for call in (
            partial(queue.queue_work, "a", WORKFLOW),
            partial(queue.queue_work, "a", WORKFLOW),
            partial(queue.dequeue_work, WORKFLOW),
            partial(queue.dequeue_work, WORKFLOW),
        ):
            for _ in range(7):  # one of which prepares the statement
                call()
            proxy.reset()
            call()
            assert (proxy.traffic.statements, proxy.traffic.round_trips) == (1, 1)


def test_what_cannot_be_queued_is_refused_before_anything_is_sent(make_queue: MakeQueue) -> None:
    queue = make_queue("postgresql://nobody@127.0.0.1:1/nowhere", retry_budget=0)
    for id, type in ((7, WORKFLOW), ("a\0", WORKFLOW), ("x" * 3000, WORKFLOW), ("a", "workflow"), ("a", None)):
        unknown: Any = id, type
        with pytest.raises(SerializationError):
            queue.queue_work(*unknown)
    for call in (partial(queue.queue_work, "a"), queue.dequeue_work, partial(queue.dequeue_work, timeout=1)):
        with pytest.raises(PersistenceError):
            call(WORKFLOW)
    with pytest.raises(ValueError, match="poll_interval"):
        make_queue(poll_interval=0)
    with pytest.raises(ValueError, match="is needed"):
        queue.using(unknown)
