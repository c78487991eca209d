"""The provider's life: its engine, its end, its threads and children, and what alone serves as a repository."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

from tests.conftest import InProcesses, Sql
from wfe_postgres import (
    PersistenceError,
    PersistenceProvider,
    PostgresEventRepository,
    PostgresPersistenceProvider,
    PostgresScheduledCommandRepository,
    PostgresSubscriptionRepository,
    PostgresWorkflowRepository,
    SerializationError,
    WorkflowExistsError,
    WorkflowStatus,
)
from wfe_postgres.rows import Base
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    from_now,
    has_event,
    pointer,
    race,
    results,
    subscription,
    workflow,
)
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider
OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'wfe_postgres'"


@pytest.fixture
def app_engine(database_url: str) -> Iterator[Engine]:
    """The application's own engine."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    yield engine
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedout() == 0
    engine.dispose()


def wait_until(condition: Callable[[], object]) -> None:
    """Return when it is true; a failure after five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.005)


# Engines, and their end ------------------------------------------------------------------------------------


def test_it_is_a_persistence_provider(provider: Provider) -> None:
    """By inheritance, so a method that is missing shows when it is made."""
    assert isinstance(provider, PostgresPersistenceProvider)
    as_interface: PersistenceProvider = provider
    assert as_interface.supports_scheduled_commands
    assert PersistenceProvider in Provider.__mro__


def test_an_applications_engine_is_its_own(app_engine: Engine) -> None:
    """`close` leaves its pool alone; the provider on it refuses further calls."""
    disposed: list[Engine] = []
    event.listen(app_engine, "engine_disposed", disposed.append)
    with Provider.from_engine(app_engine) as provider:
        id = provider.create_event(published())
        assert provider.engine is app_engine
        pool = app_engine.pool
    assert app_engine.pool is pool
    assert disposed == []
    with pytest.raises(PersistenceError, match="closed"):
        provider.get_event(id)
    with app_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM wfc.events")).scalar_one() == 1


def test_an_applications_engine_keeps_its_settings(app_engine: Engine) -> None:
    """Connections go back as they came: in transactions, at the application's isolation level."""
    level = "SHOW transaction_isolation"
    strict = app_engine.execution_options(isolation_level="SERIALIZABLE")
    provider = Provider.from_engine(strict)
    instance = created(provider, workflow())
    instance.revision = None
    provider.persist_workflow(instance)
    with app_engine.connect() as connection:
        assert connection.exec_driver_sql(level).scalar_one() == "read committed"
        assert connection.connection.driver_connection is not None
        assert not connection.connection.driver_connection.autocommit
    with strict.connect() as connection:
        assert connection.exec_driver_sql(level).scalar_one() == "serializable"
    assert "isolation_level" not in app_engine.get_execution_options()


def test_its_own_engine_serves_the_application(provider: Provider, sql: Sql) -> None:
    """What an application does on `provider.engine` is in a transaction, and undone without a commit."""
    with provider.engine.connect() as connection:
        connection.execute(text("INSERT INTO wfc.definition_sequences VALUES ('order', 41)"))
        connection.rollback()
    assert sql("SELECT count(*) FROM wfc.definition_sequences") == [(0,)]
    with provider.engine.begin() as connection:
        connection.execute(text("INSERT INTO wfc.definition_sequences VALUES ('order', 41)"))
        assert sql("SELECT count(*) FROM wfc.definition_sequences") == [(0,)]
    assert provider.next_definition_sequence("order") == 42


CALLS: dict[str, Callable[[Provider], object]] = {
    "create_new_workflow": lambda it: it.create_new_workflow(workflow()),
    "persist_workflow": lambda it: it.persist_workflow(workflow()),
    "persist_workflow, loaded": lambda it: it.persist_workflow(workflow(revision=1)),
    "get_workflow_instance": lambda it: it.get_workflow_instance("id"),
    "get_runnable_instances": lambda it: it.get_runnable_instances(at(0)),
    "create_event": lambda it: it.create_event(published()),
    "get_events": lambda it: it.get_events("paid", "1", at(0)),
    "create_event_subscription": lambda it: it.create_event_subscription(subscription()),
    "set_subscription_token": lambda it: it.set_subscription_token("id", "t", "w", from_now(60)),
    "schedule_command": lambda it: it.schedule_command(command("a")),
    "process_commands": lambda it: it.process_commands(at(0), lambda _: None),
    "get_statistics": lambda it: it.get_statistics(),
    "find_workflows": lambda it: it.find_workflows(),
    "purge_events": lambda it: it.purge_events(at(0)),
    "truncate_all": lambda it: it.truncate_all(),
    "ensure_store_exists": lambda it: it.ensure_store_exists(),
    "transaction": lambda it: it.transaction().__enter__(),
}


def test_a_call_after_close(database_url: str, sql: Sql) -> None:
    """A `PersistenceError` that says so, and no connection; closing again is nothing."""
    provider = Provider(database_url)
    provider.create_event(published())
    provider.close()
    provider.close()
    for call in CALLS.values():
        with pytest.raises(PersistenceError, match="closed") as caught:
            call(provider)
        assert not caught.value.retryable
    wait_until(lambda: sql(OURS) == [])


def fail(provider: Provider) -> None:
    """Make a call that works, and one that the database refuses."""
    id = provider.create_event(published())
    provider.create_event(published(id=id))


def test_with_closes(database_url: str, sql: Sql) -> None:
    """At the end of the block, also one that raises: no connection and no thread is left."""
    before = threading.active_count()
    for _ in range(3):
        provider = Provider(database_url)
        with pytest.raises(PersistenceError, match="events_pkey"), provider:
            fail(provider)
        with pytest.raises(PersistenceError, match="closed"):
            provider.get_runnable_events(at(0))
    wait_until(lambda: sql(OURS) == [])
    wait_until(lambda: threading.active_count() == before)


def test_truncate_all(provider: Provider, sql: Sql) -> None:
    """Empties every table, and numbers begin at 1 again."""
    for _ in range(2):
        created(provider, workflow())
        provider.create_event(published())
        provider.create_event_subscription(subscription())
        provider.schedule_command(command("a"))
        sql(
            "INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message)"
            " VALUES (now(), 'w', 'p', 'm')"
        )
        assert provider.next_definition_sequence("order") == 1
        assert sql("SELECT id FROM wfc.execution_errors") == [(1,)]
        assert sql("SELECT id FROM wfc.scheduled_commands") == [(1,)]
        for table in Base.metadata.sorted_tables:
            assert sql(f"SELECT count(*) > 0 FROM {table}") == [(True,)]
        provider.truncate_all()
        for table in Base.metadata.sorted_tables:
            assert sql(f"SELECT count(*) FROM {table}") == [(0,)]


# Threads and children --------------------------------------------------------------------------------------


def test_sixteen_threads(provider: Provider) -> None:
    """They share one provider of ten connections; every result is the caller's own."""

    def work(number: int) -> bool:
        own = []
        for turn in range(10):
            instance = workflow(pointer(f"{number}-{turn}"), data={"number": number, "turn": turn})
            provider.create_new_workflow(instance)
            loaded = provider.get_workflow_instance(instance.id)
            assert loaded == instance
            loaded.data["saved"] = True
            provider.persist_workflow(loaded)
            id = provider.create_event(published(event_key=str(number)))
            assert id in provider.get_events("paid", str(number), at(0))
            own.append(loaded)
        assert provider.get_workflow_instances([it.id for it in own]) == own
        return True

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))
    assert provider.get_statistics().workflows[WorkflowStatus.RUNNABLE] == 160
    assert isinstance(provider.engine.pool, QueuePool)
    assert provider.engine.pool.checkedin() <= 10


def test_threads_race_for_one_name(provider: Provider) -> None:
    """Exactly one wins, the others are told."""
    outcomes = race([lambda: provider.create_new_workflow(workflow(name="one")) for _ in range(16)])
    assert sum(isinstance(it.error, WorkflowExistsError) for it in outcomes) == 15
    assert len(results([it for it in outcomes if it.error is None])) == 1


def fill(provider: Provider, name: str) -> list[str]:
    """Store and read back fifty events of this name."""
    for turn in range(50):
        id = provider.create_event(published(event_name=name, event_data=turn))
        assert provider.get_event(id).event_data == turn
    return provider.get_events(name, "order-1", at(0))


def test_a_fork(database_url: str, in_processes: InProcesses, sql: Sql) -> None:
    """A provider with a warm pool works in children and in the parent at once; nobody closes another's connections."""
    with Provider(database_url) as provider:
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(4)]))
        warm = {pid for (pid,) in sql(OURS)}
        assert warm
        with ThreadPoolExecutor(1) as parent:
            own = parent.submit(fill, provider, "parent")
            counts = in_processes(fill, [(provider, f"child {number}") for number in range(3)], method="fork")
        assert len(own.result()) == 50
        assert [len(ids) for ids in counts] == [50, 50, 50]
        assert warm <= {pid for (pid,) in sql(OURS)}
        assert len(fill(provider, "after")) == 50


def test_a_fork_on_an_applications_engine(app_engine: Engine, in_processes: InProcesses) -> None:
    """The same for `from_engine`."""
    provider = Provider.from_engine(app_engine)
    fill(provider, "warm")
    assert [len(ids) for ids in in_processes(fill, [(provider, "child")], method="fork")] == [50]
    assert len(fill(provider, "parent")) == 50


# Repositories alone ----------------------------------------------------------------------------------------


def test_repositories_with_a_session(provider: Provider, app_engine: Engine) -> None:
    """They join its transaction: committed with it, rolled back with it."""
    with Session(app_engine) as session:
        instance = workflow()
        PostgresWorkflowRepository(session).create_new_workflow(instance)
        PostgresEventRepository(session).create_event(published(id="event-1"))
        PostgresSubscriptionRepository(session).create_event_subscription(subscription(id="subscription-1"))
        commands = PostgresScheduledCommandRepository(session, command_lease=5)
        commands.schedule_command(command("a"))
        assert commands.process_commands(at(1), lambda _: None) == 1
        assert not has_event(provider, "event-1")
        session.commit()
        PostgresEventRepository(session).mark_event_processed("event-1")
        session.rollback()
    assert provider.get_workflow_instance(instance.id) == instance
    assert not provider.get_event("event-1").is_processed
    assert provider.get_subscription("subscription-1").event_name == "paid"


def test_repositories_with_a_sessionmaker(provider: Provider, app_engine: Engine) -> None:
    """Each call is a transaction of its own."""
    make = sessionmaker(app_engine)
    workflows, events = PostgresWorkflowRepository(make), PostgresEventRepository(make)
    instance = workflow()
    workflows.create_new_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    instance.revision = None
    instance.description = "unconditional"
    workflows.persist_workflow(instance)
    assert provider.get_workflow_instance(instance.id) == instance
    with pytest.raises(WorkflowExistsError):
        workflows.create_new_workflow(workflow(id=instance.id))
    assert has_event(provider, events.create_event(published()))
    commands = PostgresScheduledCommandRepository(make)
    commands.schedule_command(command("a"))
    assert commands.process_commands(at(1), lambda _: None) == 1
    subscriptions = PostgresSubscriptionRepository(make)
    assert subscriptions.set_subscription_token(
        subscriptions.create_event_subscription(subscription()), "t", "w", from_now(60)
    )


def test_the_keywords_of_a_repository(empty_database_url: str) -> None:
    """`schema` and `max_payload_bytes`, checked as the provider's are."""
    with Provider(empty_database_url, schema="other") as provider:
        provider.ensure_store_exists()
        with provider.engine.connect() as connection:
            for kind in (
                PostgresWorkflowRepository,
                PostgresSubscriptionRepository,
                PostgresScheduledCommandRepository,
            ):
                kind(connection, schema="other", max_payload_bytes=10)
                with pytest.raises(ValueError, match="schema"):
                    kind(connection, schema="Other")
            events = PostgresEventRepository(connection, schema="other", max_payload_bytes=10)
            events.create_event(published(event_data="x" * 8))
            with pytest.raises(SerializationError):
                events.create_event(published(event_data="x" * 9))
            assert len(events.get_runnable_events(at(0))) == 1


# Time, and connections that go -----------------------------------------------------------------------------


@contextmanager
def locked(url: str, statement: str) -> Iterator[psycopg.Connection]:
    """A lock that another session holds during the block."""
    with psycopg.connect(url) as other:
        other.execute(statement.encode())
        yield other
        other.rollback()


WAITING: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "a row": (
        "SELECT FROM wfc.workflows FOR UPDATE",
        lambda it: it.persist_workflow(workflow(id="there", revision=None)),
    ),
    "a table": ("LOCK TABLE wfc.events", lambda it: it.get_runnable_events(at(0))),
    "a table, writing": ("LOCK TABLE wfc.events", lambda it: it.create_event(published(id="never"))),
}


@pytest.mark.parametrize("name", WAITING)
def test_call_timeout(database_url: str, name: str) -> None:
    """A lock that another session holds: the call ends in time, without effect, and the next one works."""
    statement, call = WAITING[name]
    with Provider(database_url, call_timeout=0.5) as provider:
        stored = created(provider, workflow(id="there"))
        with locked(database_url, statement):
            began = time.monotonic()
            with pytest.raises(PersistenceError):
                call(provider)
            assert 0.4 < time.monotonic() - began < 1.5
        assert provider.get_runnable_events(at(0)) == []
        assert provider.get_workflow_instance("there").revision == stored.revision
        assert not has_event(provider, "never")


def test_call_timeout_in_a_transaction(database_url: str) -> None:
    """It holds for each call in a block."""
    with Provider(database_url, call_timeout=0.5) as provider:
        with locked(database_url, "LOCK TABLE wfc.events"):
            began = time.monotonic()
            with pytest.raises(PersistenceError), provider.transaction() as tx:
                tx.create_event(published(id="never"))
            assert 0.4 < time.monotonic() - began < 1.5
        assert not has_event(provider, "never")


def test_no_call_timeout(database_url: str) -> None:
    """`None` waits."""
    with (
        Provider(database_url, call_timeout=None) as provider,
        ThreadPoolExecutor(1) as thread,
        locked(database_url, "LOCK TABLE wfc.events") as other,
    ):
        waiting = thread.submit(provider.create_event, published(id="later"))
        wait_until(lambda: is_waiting(database_url))
        assert not waiting.done()
        other.rollback()
        assert waiting.result() == "later"


def is_waiting(url: str) -> bool:
    """Whether one of ours waits for a lock."""
    with psycopg.connect(url) as connection:
        return bool(connection.execute(f"{OURS} AND wait_event_type = 'Lock'".encode()).fetchall())


def test_connections_that_died_in_the_pool(provider: Provider, sql: Sql) -> None:
    """Cost no failed call, read or write, and no double."""
    for turn in range(3):
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(3)]))
        assert sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        ids = provider.get_runnable_events(at(0))
        assert len(ids) == turn
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        provider.create_event(published())
    assert len(provider.get_runnable_events(at(0))) == 3


def test_without_retries_too(database_url: str, sql: Sql) -> None:
    """A connection that is known to be dead is not even tried."""
    with Provider(database_url, retry_budget=0) as provider:
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(4)]))
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
        provider.create_event(published())


LOST: dict[str, Callable[[Provider], object]] = {
    "create_event": lambda it: it.create_event(published(id="event-1")),
    "mark_event_processed": lambda it: it.mark_event_processed("there"),
    "transact": lambda it: it.purge_events(at(-1)),
}


@pytest.mark.parametrize("call", LOST.values(), ids=LOST)
def test_a_connection_that_dies_under_a_write(
    provider: Provider, database_url: str, call: Callable[[Provider], object], sql: Sql
) -> None:
    """While it waits for a lock: it is made again on another one, and takes place once."""
    provider.create_event(published(id="there"))
    with ThreadPoolExecutor(1) as thread, locked(database_url, "LOCK TABLE wfc.events") as other:
        waiting = thread.submit(call, provider)
        wait_until(lambda: is_waiting(database_url))
        sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS} AND wait_event_type = 'Lock') AS ours")
        wait_until(lambda: is_waiting(database_url))
        other.rollback()
        waiting.result(timeout=10)
    assert sql("SELECT count(*) = count(DISTINCT id) FROM wfc.events") == [(True,)]


def test_a_connection_that_dies_under_a_save(provider: Provider, database_url: str, sql: Sql) -> None:
    """The same for a save, guarded and unconditional: no false conflict."""
    instance = created(provider, workflow())
    for description, revision in (("guarded", instance.revision), ("unconditional", None)):
        instance.description = description
        if revision is None:
            instance.revision = None
        with ThreadPoolExecutor(1) as thread, locked(database_url, "SELECT FROM wfc.workflows FOR UPDATE") as other:
            waiting = thread.submit(provider.persist_workflow, instance)
            wait_until(lambda: is_waiting(database_url))
            sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS} AND wait_event_type = 'Lock') AS ours")
            wait_until(lambda: is_waiting(database_url))
            other.rollback()
            waiting.result(timeout=10)
        assert provider.get_workflow_instance(instance.id) == instance


def test_a_transaction_whose_connection_dies(provider: Provider, sql: Sql) -> None:
    """Nothing of it is retried or written: the block is the caller's to run again."""
    tx = provider.transaction()
    inside = tx.__enter__()
    inside.create_event(published(id="lost"))
    sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({OURS}) AS ours")
    with pytest.raises(PersistenceError) as caught:
        inside.create_event(published(id="lost too"))
    assert not tx.__exit__(PersistenceError, caught.value, None)
    assert provider.get_runnable_events(at(0)) == []


def test_a_server_that_cannot_be_reached_for_a_while(database_url: str, sql: Sql) -> None:
    """Refused connections are tried again until the budget is spent."""
    attempts: list[float] = []

    def refuse(*_: object) -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 4:
            raise psycopg.OperationalError("connection to server failed: Connection refused")

    with Provider(database_url, retry_budget=5) as provider:
        event.listen(provider.engine, "do_connect", refuse)
        provider.create_event(published())
    assert len(attempts) == 4

    attempts.clear()
    with Provider(database_url, retry_budget=0) as provider:
        event.listen(provider.engine, "do_connect", refuse)
        with pytest.raises(PersistenceError, match="no server answers") as caught:
            provider.create_event(published())
    assert caught.value.retryable
    assert len(attempts) == 1
