"""The provider's engine, `from_engine` with an application's engine, and `close`."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text

from tests.conftest import Sql
from tests.provider.app import take_anothers_name
from tests.provider.databases import OURS, wait_until
from wfe_postgres import PersistenceError, PersistenceProvider, PostgresPersistenceProvider, SerializationError
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import at, command, created, from_now, subscription, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider


def test_provider_inherits_persistence_provider(provider: Provider) -> None:
    """By inheritance, so that a missing abstract method raises TypeError on construction."""
    assert isinstance(provider, PostgresPersistenceProvider)
    as_interface: PersistenceProvider = provider
    assert as_interface.supports_scheduled_commands
    assert PersistenceProvider in Provider.__mro__


def test_close_does_not_dispose_an_application_engine(app_engine: Engine) -> None:
    """The pool is unchanged, and calls of the closed provider raise PersistenceError."""
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


def test_from_engine_does_not_change_engine_settings(app_engine: Engine) -> None:
    """Connections return to the pool without autocommit and with the application's isolation level."""
    level = "SHOW transaction_isolation"
    serializable = app_engine.execution_options(isolation_level="SERIALIZABLE")
    provider = Provider.from_engine(serializable)
    instance = created(provider, workflow())
    instance.revision = None
    provider.persist_workflow(instance)
    with app_engine.connect() as connection:
        assert connection.exec_driver_sql(level).scalar_one() == "read committed"
        assert connection.connection.driver_connection is not None
        assert not connection.connection.driver_connection.autocommit
    with serializable.connect() as connection:
        assert connection.exec_driver_sql(level).scalar_one() == "serializable"
    assert "isolation_level" not in app_engine.get_execution_options()


def test_from_engine_applies_keyword_arguments_except_engine_options(empty_database_url: str) -> None:
    """Those of the constructor except the options of the engine, which raise TypeError."""
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    provider = Provider.from_engine(engine, schema="other", max_payload_bytes=10, command_lease=5, retry_budget=0)
    provider.ensure_store_exists()
    provider.create_event(published(event_data="x" * 8))
    with pytest.raises(SerializationError):
        provider.create_event(published(event_data="x" * 9))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM other.events")).scalar_one() == 1
        with pytest.raises(SerializationError):
            provider.using(connection).create_event(published(event_data="x" * 9))
        assert len(provider.using(connection).get_runnable_events(at(0))) == 1
    for other in ("call_timeout", "pool_size", "echo"):
        with pytest.raises(TypeError, match=other):
            Provider.from_engine(engine, **{other: 1})  # type: ignore[arg-type]
    engine.dispose()


def test_provider_engine_can_be_used_by_the_application(provider: Provider, sql: Sql) -> None:
    """Statements of an application on `provider.engine` run in a transaction, which can be rolled back."""
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


def test_calls_after_close_raise_persistence_error(database_url: str, sql: Sql) -> None:
    """The error says that the provider is closed, no connection is opened, and `close` can be called twice."""
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
    """Make a call that succeeds, and one that violates a unique constraint."""
    provider.create_event(published())
    take_anothers_name(provider)


def test_with_statement_closes_the_provider(database_url: str, sql: Sql) -> None:
    """No connection and no thread remains after the block, also if it raises."""
    before = threading.active_count()
    for _ in range(3):
        provider = Provider(database_url)
        with pytest.raises(PersistenceError, match="workflows_name_key"), provider:
            fail(provider)
        with pytest.raises(PersistenceError, match="closed"):
            provider.get_runnable_events(at(0))
    wait_until(lambda: sql(OURS) == [])
    wait_until(lambda: threading.active_count() == before)


def test_truncate_all_empties_tables_and_restarts_identities(provider: Provider, sql: Sql) -> None:
    """Every table is empty, and identity columns and definition sequences restart at 1."""
    provider.truncate_all()
    for _ in range(2):
        created(provider, workflow())
        provider.create_event(published())
        provider.create_event_subscription(subscription())
        provider.schedule_command(command("a"))
        sql(
            "INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message)"
            " VALUES (now(), 'w', 'p', 'm')"
        )
        sql("INSERT INTO wfc.lock_leases VALUES ('order', 1, now(), now())")
        sql("INSERT INTO wfc.lifecycle_payloads (payload) VALUES ('{}')")
        sql("INSERT INTO wfc.work_queue (queue, id) VALUES ('Workflow', 'w')")
        assert provider.next_definition_sequence("order") == 1
        assert sql("SELECT id FROM wfc.execution_errors") == [(1,)]
        assert sql("SELECT id FROM wfc.scheduled_commands") == [(1,)]
        for table in Base.metadata.sorted_tables:
            assert sql(f"SELECT count(*) > 0 FROM {table}") == [(True,)]
        provider.truncate_all()
        for table in Base.metadata.sorted_tables:
            assert sql(f"SELECT count(*) FROM {table}") == [(0,)]


@pytest.mark.parametrize("make", [Provider, Provider.from_engine], ids=["own engine", "application's engine"])
def test_provider_without_references_is_freed_at_once(make: Callable[..., Provider]) -> None:
    """With the connections of its pool: not when the garbage collector runs, which can be much later."""
    url = "postgresql+psycopg://none/none"
    gc.disable()
    try:
        provider = make(url if make is Provider else create_engine(url))
        freed = weakref.ref(provider)
        del provider
        assert freed() is None
    finally:
        gc.enable()


def test_connection_returned_last_is_used_first(database_url: str) -> None:
    """One busy thread keeps one server process, however many connections the pool has."""
    with Provider(database_url) as provider:
        with provider.engine.connect(), provider.engine.connect():
            assert provider.engine.pool.checkedout() == 2  # type: ignore[attr-defined]
        assert len({_backend(provider) for _ in range(6)}) == 1
    with Provider(database_url, pool_use_lifo=False) as provider:
        with provider.engine.connect(), provider.engine.connect():
            pass
        assert len({_backend(provider) for _ in range(6)}) == 2


def _backend(provider: Provider) -> int:
    with provider.engine.connect() as connection:
        return connection.scalar(text("SELECT pg_backend_pid()"))  # type: ignore[no-any-return]
