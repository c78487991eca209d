"""The queue among processes, some of which are killed or forked, and on connections that are cut."""

import logging
import multiprocessing
import os
import time
from collections import Counter
from typing import Any

import psycopg
import pytest

from tests.conftest import InProcesses, Sql
from tests.faults.kit.bouncer import pgbouncer
from tests.faults.kit.form import require_tool, runs
from tests.faults.kit.proxy import PASS, Refuse, TcpProxy
from tests.provider.databases import wait_until
from tests.services.conftest import MakeQueue
from tests.services.kit.movers import TAKEN, consume_and_note, move
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider
from wfe_postgres.testing.conformance.queues import waiting

WORKFLOW = QueueType.WORKFLOW
MOVERS = runs(4, 8)
"""How many producers, and how many consumers."""
IDS = runs(2000, 20_000)
LISTENING = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = current_database()"


def warnings_of(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """The texts of the warnings that contain this."""
    return [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING and part in it.getMessage()]


def test_producers_and_consumers_lose_no_id_and_double_none(
    database_url: str, in_processes: InProcesses, sql: Sql
) -> None:
    arguments = [
        (database_url, role, f"p{number}", IDS // MOVERS)
        for role in ("producer", "consumer")
        for number in range(MOVERS)
    ]
    moved = in_processes(move, arguments, method="fork", timeout=runs(100, 900))
    queued = [id for role, ids in moved if role == "producer" for id in ids]
    taken = [ids for role, ids in moved if role == "consumer"]
    assert Counter(id for ids in taken for id in ids) == Counter(queued)
    assert len(queued) == IDS
    assert all(taken), "a consumer took nothing"
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]


def test_killed_consumer_loses_the_one_id_that_it_had_taken(make_queue: MakeQueue, database_url: str, sql: Sql) -> None:
    """The others take the rest, none of it twice."""
    sql(TAKEN)
    queue, count = make_queue(), runs(300, 3000)
    for number in range(count):
        queue.queue_work(f"w{number}", WORKFLOW)
    context: Any = multiprocessing.get_context("forkserver")
    deaths = [runs(5, 50) * number for number in range(3)]
    consumers = [context.Process(target=consume_and_note, args=(database_url, it)) for it in (*deaths, None, None)]
    for together in (consumers[:3], consumers[3:]):
        for consumer in together:
            consumer.start()
        for consumer in together:
            consumer.join(runs(60, 600))
    assert [it.exitcode for it in consumers] == [-9, -9, -9, 0, 0]
    assert sql("SELECT count(*), count(DISTINCT id) FROM public.taken") == [(count - 3, count - 3)]
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]


def test_id_whose_taking_was_not_committed_is_taken_again(make_queue: MakeQueue, database_url: str) -> None:
    queue = make_queue()
    queue.queue_work("w1", WORKFLOW)
    taker = psycopg.connect(database_url)
    assert taker.execute("SELECT wfc.take_work('Workflow')").fetchone() == ("w1",)
    assert queue.dequeue_work(WORKFLOW) is None
    taker.close()
    wait_until(lambda: queue.dequeue_work(WORKFLOW) == "w1")


@pytest.mark.usefixtures("only_told")
def test_what_was_queued_while_the_connection_was_cut_is_found_without_the_poll(
    make_queue: MakeQueue, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue()
    with TcpProxy(database_url) as proxy, PostgresQueueProvider(proxy.url, poll_interval=600.0) as waiter:
        assert waiter.dequeue_work(WORKFLOW, timeout=0.5) is None
        for id in ("w1", "w2"):
            found = waiting(waiter, 60)
            proxy.fault = Refuse()
            proxy.cut()
            wait_until(lambda: warnings_of(caplog, "was lost"))
            queue.queue_work(id, WORKFLOW)
            proxy.fault = PASS
            assert found() == id
            wait_until(lambda: warnings_of(caplog, "listening on wfc_queue again"))
            caplog.clear()


@pytest.mark.usefixtures("only_told")
def test_terminated_connection_is_replaced_and_the_queue_looked_at(make_queue: MakeQueue, sql: Sql) -> None:
    queue, waiter = make_queue(), make_queue(poll_interval=600.0)
    found = waiting(waiter, 60)
    wait_until(lambda: sql(f"SELECT pid {LISTENING}"))
    [(pid,)] = sql(f"SELECT pid {LISTENING}")
    sql(f"SELECT pg_terminate_backend(pid) {LISTENING}")
    wait_until(lambda: [it for it in sql(f"SELECT pid {LISTENING}") if it != (pid,)])
    queue.queue_work("w1", WORKFLOW)
    assert found() == "w1"


def test_lost_notification_is_made_up_for_by_the_poll(
    make_queue: MakeQueue, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wfe_postgres.services.queue_waits.SAFETY_INTERVAL", 1.0)
    waiter = make_queue(poll_interval=600.0)
    assert waiter.dequeue_work(WORKFLOW, timeout=3) is None
    found = waiting(waiter, 30)
    sql("INSERT INTO wfc.work_queue (queue, id) VALUES ('Workflow', 'w1')")
    assert found() == "w1"


def test_through_pgbouncer_the_queue_is_polled_and_that_is_said_once(
    make_queue: MakeQueue, server: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    require_tool("pgbouncer")
    queue = make_queue()
    with pgbouncer(server) as bouncer:
        options: dict[str, Any] = {"connect_args": {"prepare_threshold": None}, "poll_interval": 0.2}
        with PostgresQueueProvider(bouncer.url(database_url), **options) as waiter:
            for number in range(10):
                found = waiting(waiter, 30)
                queue.queue_work(f"w{number}", WORKFLOW)
                assert found() == f"w{number}"
            assert len(warnings_of(caplog, "connection pooler")) == 1
            began = time.monotonic()
        assert time.monotonic() - began < 10


def test_waiting_begins_before_the_server_is_there(database_url: str) -> None:
    with TcpProxy(database_url) as proxy:
        proxy.fault = Refuse()
        with PostgresQueueProvider(proxy.url, retry_budget=0, poll_interval=0.1) as queue:
            queue.start()
            time.sleep(0.3)
            proxy.fault = PASS
            queue.queue_work("w1", WORKFLOW)
            assert queue.dequeue_work(WORKFLOW, timeout=30) == "w1"
            proxy.fault = Refuse()
            proxy.cut()
        assert queue.schema == "wfc"


def wait_and_fork(url: str) -> list[object]:
    """What parent and child take, each after the other has waited."""
    queue = PostgresQueueProvider(url, poll_interval=600.0)
    assert queue.dequeue_work(WORKFLOW, timeout=0.5) is None
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, b"ready")
            with queue:
                assert queue.dequeue_work(WORKFLOW, timeout=1) is None
                os.write(writing, b"waits")
                os.write(writing, str(queue.dequeue_work(WORKFLOW, timeout=60)).encode())
        finally:
            os._exit(0)
    while b"waits" not in os.read(reading, 100):
        pass
    other = PostgresQueueProvider(url)
    other.queue_work("of the child", WORKFLOW)
    found: list[object] = [os.read(reading, 100).decode()]
    os.waitpid(child, 0)
    waits = waiting(queue, 60)
    other.queue_work("of the parent", WORKFLOW)
    found.append(waits())
    for it in (queue, other):
        it.close()
    return found


def test_child_process_waits_by_itself_and_its_parent_goes_on(database_url: str, in_processes: InProcesses) -> None:
    [found] = in_processes(wait_and_fork, [(database_url,)])
    assert found == ["of the child", "of the parent"]


@pytest.mark.usefixtures("only_told")
def test_provider_that_is_stopped_lets_those_that_wait_return(make_queue: MakeQueue) -> None:
    queue, other = make_queue(poll_interval=600.0), make_queue()
    found = waiting(queue, 60)
    time.sleep(0.3)
    queue.stop()
    other.queue_work("w1", WORKFLOW)
    assert found() == "w1"  # it waits again
