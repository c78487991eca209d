"""Lifecycle events on PostgreSQL: the suite, the form on the wire, cut connections, forks, and hosts."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import event as sqlalchemy_event

from tests.conftest import InProcesses, Sql
from tests.faults.kit.proxy import PASS, Refuse, TcpProxy
from wfe_postgres import PersistenceError, PostgresPersistenceProvider, SerializationError
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType
from wfe_postgres.host import WorkflowBuilder, WorkflowHost
from wfe_postgres.services import PostgresLifecyclePublisher
from wfe_postgres.testing.conformance import LifecycleConformance
from wfe_postgres.testing.conformance.lifecycle import Received, lifecycle_event
from wfe_postgres.testing.conformance.support import eventually

Make = Callable[..., PostgresLifecyclePublisher]

ROWS = "SELECT count(*) FROM wfc.lifecycle_payloads"
ENGINES_FORM = {
    LifecycleEventType.STARTED: "Started",
    LifecycleEventType.ERROR: {"Error": {"message": "ValueError: no stock", "step_id": 4, "step_name": "reserve"}},
    LifecycleEventType.STEP_COMPLETED: {"StepCompleted": {"step_id": 4, "step_name": "reserve"}},
}
OF_A_RUST_HOST = (
    '{"event_time_utc":"2030-01-01T12:00:01.234567890Z","workflow_instance_id":"w1","workflow_definition_id":"order",'
    '"version":3,"reference":null,"event_type":{"StepStarted":{"step_id":3,"step_name":null}}}'
)


@pytest.fixture
def make(database_url: str) -> Iterator[Make]:
    """A factory for publishers on the database of the test, which are closed at the end."""
    made: list[PostgresLifecyclePublisher] = []

    def make_one(url: str = database_url, **options: Any) -> PostgresLifecyclePublisher:
        made.append(PostgresLifecyclePublisher(url, **options))
        return made[-1]

    yield make_one
    for publisher in made:
        publisher.close()


class TestOnPostgres(LifecycleConformance):
    """The complete suite."""

    @pytest.fixture
    def make_publisher(self, make: Make) -> Make:
        return make


class TestOnEngine(LifecycleConformance):
    """On an application's engine, in another schema."""

    @pytest.fixture
    def make_publisher(self, provider: PostgresPersistenceProvider) -> Make:
        schema = "s" * 60
        PostgresLifecyclePublisher.from_engine(provider.engine, schema=schema).ensure_store_exists()
        return partial(PostgresLifecyclePublisher.from_engine, provider.engine, schema=schema)


@pytest.mark.parametrize("type", ENGINES_FORM)
def test_payload_has_the_form_of_the_engine(make: Make, database_url: str, type: LifecycleEventType) -> None:
    publisher = make()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("LISTEN wfc_lifecycle")
        publisher.publish(lifecycle_event(type))
        [notification] = connection.notifies(timeout=10, stop_after=1)
    found = json.loads(notification.payload)
    assert found.pop("execution_pointer_id", "p1") == "p1"
    assert found == {
        "event_time_utc": "2030-01-01T12:00:01.234567Z",
        "workflow_instance_id": "w1",
        "workflow_definition_id": "order",
        "version": 3,
        "reference": "A-17",
        "event_type": ENGINES_FORM[type],
    }


def test_what_a_rust_host_would_write_is_read_and_other_payloads_are_logged(
    make: Make, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    received = Received()
    make().subscribe(received)
    for payload in ("", "no JSON", "[]", '{"event_type": "Started"}', "#no number", "#7", OF_A_RUST_HOST):
        sql("SELECT pg_notify('wfc_lifecycle', %s)", [payload])
    [event] = received.wait_for(1)
    assert (event.type, event.step_id, event.step_name) == (LifecycleEventType.STEP_STARTED, 3, None)
    assert len([it for it in caplog.records if it.levelno == logging.ERROR]) == 6


def test_long_payload_is_a_row_that_is_deleted_after_a_while(make: Make, sql: Sql) -> None:
    publisher, received = make(), Received()
    publisher.subscribe(received)
    long = lifecycle_event(LifecycleEventType.ERROR, message="x" * 8000)
    publisher.publish(long)
    assert received.wait_for(1) == [long]
    for _ in range(4):
        publisher.publish(long)
    assert sql(ROWS) == [(5,)]
    sql("UPDATE wfc.lifecycle_payloads SET created_at = now() - interval '1 hour'")
    publisher.publish(long)
    assert sql(ROWS) == [(1,)]


def test_event_that_is_none_is_refused_before_anything_is_sent(make: Make) -> None:
    publisher = make("postgresql://nobody@127.0.0.1:1/nowhere")
    for values in ({"event_time": lifecycle_event().event_time.replace(tzinfo=None)}, {"workflow_id": object()}):
        with pytest.raises(SerializationError):
            publisher.publish(lifecycle_event(**values))


def test_failing_server_is_an_error_for_publisher_and_subscriber(make: Make) -> None:
    publisher = make("postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(PersistenceError):
        publisher.publish(lifecycle_event())
    with pytest.raises(PersistenceError):
        publisher.subscribe(Received())


def test_waiting_subscriber_sends_no_query(make: Make) -> None:
    publisher, received = make(), Received()
    sent: list[str] = []
    publisher.subscribe(received)
    sqlalchemy_event.listen(publisher.engine, "before_cursor_execute", lambda *it: sent.append(it[2]))
    time.sleep(1)
    assert sent == []
    publisher.publish(lifecycle_event())
    received.wait_for(1)
    assert len(sent) == 1


def test_subscriber_whose_connection_was_cut_listens_again(
    make: Make, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was published meanwhile is lost, which is logged once."""
    publisher, received = make(), Received()
    with TcpProxy(database_url) as proxy:
        subscriber = make(proxy.url)
        subscriber.subscribe(received)
        proxy.fault = Refuse()
        proxy.cut()
        eventually(lambda: [it for it in caplog.records if "was lost" in it.getMessage()])
        publisher.publish(lifecycle_event(LifecycleEventType.SUSPENDED))
        time.sleep(0.5)
        proxy.fault = PASS
        eventually(lambda: [it for it in caplog.records if "again" in it.getMessage()])
        publisher.publish(lifecycle_event(LifecycleEventType.COMPLETED))
        assert [it.type for it in received.wait_for(1)] == [LifecycleEventType.COMPLETED]
        subscriber.close()
    assert len([it for it in caplog.records if it.levelno == logging.WARNING]) == 2


def test_backend_that_was_terminated_is_replaced(make: Make, sql: Sql) -> None:
    publisher, received = make(), Received()
    publisher.subscribe(received)
    listening = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"
    [(pid,)] = sql(f"SELECT pid {listening}")
    sql(f"SELECT pg_terminate_backend(pid) {listening}")
    eventually(lambda: [it for it in sql(f"SELECT pid {listening}") if it != (pid,)])
    publisher.publish(lifecycle_event())
    received.wait_for(1)


def test_subscriber_is_called_between_start_and_stop(make: Make) -> None:
    publisher, subscriber, received = make(), make(), Received()
    subscriber.start()
    subscriber.subscribe(received)
    for number in range(1, 3):
        subscriber.stop()
        subscriber.stop()
        publisher.publish(lifecycle_event(LifecycleEventType.SUSPENDED))
        subscriber.start()
        subscriber.start()
        publisher.publish(lifecycle_event(LifecycleEventType.COMPLETED))
        assert [it.type for it in received.wait_for(number)] == [LifecycleEventType.COMPLETED] * number
    assert [it.name for it in threading.enumerate()].count("wfe_postgres-listen") == 1


def test_callback_may_stop_its_publisher(make: Make) -> None:
    publisher, subscriber, called = make(), make(), threading.Event()

    def stop(_: LifecycleEvent) -> None:
        subscriber.stop()
        called.set()

    subscriber.subscribe(stop)
    publisher.publish(lifecycle_event())
    assert called.wait(30)


def subscribe_and_fork(url: str) -> list[object]:
    """What parent and child receive of an event, before and after `start` in the child."""
    received = Received()
    publisher = PostgresLifecyclePublisher(url)
    publisher.subscribe(received)
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            publisher.publish(lifecycle_event(version=1))
            time.sleep(0.5)
            before = len(received)
            publisher.start()
            publisher.publish(lifecycle_event(version=2))
            os.write(writing, repr([before, [it.version for it in received.wait_for(1)]]).encode())
            publisher.stop()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found: list[object] = [os.read(reading, 1000).decode(), [it.version for it in received.wait_for(2)]]
    publisher.close()
    return found


def test_child_process_receives_after_start_and_its_parent_goes_on(
    database_url: str, in_processes: InProcesses
) -> None:
    [found] = in_processes(subscribe_and_fork, [(database_url,)])
    assert found == ["[0, [2]]", [1, 2]]


def test_host_publishes_what_it_has_stored(make: Make, provider: PostgresPersistenceProvider) -> None:
    received = Received()
    make().subscribe(received)
    definition = WorkflowBuilder("order").start_with(lambda _: None, name="reserve").build()
    with WorkflowHost(provider, [definition], lifecycle=make(), poll_interval=0.05) as host:
        id = host.start_workflow("order", reference="A-17")
        host.wait_for_workflow(id, 30)
        received.wait_for(4)
    assert [it.type.value for it in received] == ["Started", "StepStarted", "StepCompleted", "Completed"]
    assert {(it.workflow_id, it.reference) for it in received} == {(id, "A-17")}
