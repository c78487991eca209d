"""A missing or outdated schema: calls raise StoreNotReadyError, which names the command to run."""

import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.orm import Session

from wfe_postgres import ExecutionError, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.testing.conformance.support import at, command, event, from_now, subscription, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[Provider], object]

EACH_CALL: dict[str, Call] = {
    "create_new_workflow": lambda it: it.create_new_workflow(workflow()),
    "persist_workflow": lambda it: it.persist_workflow(workflow(revision=1)),
    "persist_workflow, unconditional": lambda it: it.persist_workflow(workflow()),
    "get_workflow_instance": lambda it: it.get_workflow_instance("w"),
    "get_runnable_instances": lambda it: it.get_runnable_instances(at(0)),
    "next_definition_sequence": lambda it: it.next_definition_sequence("order"),
    "create_event": lambda it: it.create_event(event()),
    "get_runnable_events": lambda it: it.get_runnable_events(at(0)),
    "create_event_subscription": lambda it: it.create_event_subscription(subscription()),
    "set_subscription_token": lambda it: it.set_subscription_token("s", "t", "w", from_now(1)),
    "schedule_command": lambda it: it.schedule_command(command("a")),
    "process_commands": lambda it: it.process_commands(at(0), lambda _: None),
    "persist_errors": lambda it: it.persist_errors([ExecutionError("w", "p", "m")]),
    "find_workflows": lambda it: it.find_workflows(),
    "get_statistics": lambda it: it.get_statistics(),
    "truncate_all": lambda it: it.truncate_all(),
}


def test_calls_without_a_schema_raise_store_not_ready(empty_database_url: str) -> None:
    """Each call raises an error that is not retryable and names `wfe-postgres upgrade`."""
    began = time.monotonic()
    with Provider(empty_database_url) as provider:
        for call in EACH_CALL.values():
            with pytest.raises(StoreNotReadyError, match="wfe-postgres upgrade") as caught:
                call(provider)
            assert not caught.value.retryable
        with pytest.raises(StoreNotReadyError, match="wfe-postgres upgrade"), provider.transaction() as tx:
            tx.create_event(event())
    assert time.monotonic() - began < 2


SAYS = r"the store in schema tenant_7 is missing .* call ensure_store_exists\(\) or run `wfe-postgres upgrade`"


def test_error_names_the_schema_and_both_ways_to_create_the_store(empty_database_url: str) -> None:
    """However the call is made: also where the command, which needs an extra, is not installed."""
    with Provider(empty_database_url, schema="tenant_7") as provider:
        engine = provider.engine
        with psycopg.connect(empty_database_url) as driver, engine.connect() as connection, Session(engine) as session:
            joined = [provider.using(it) for it in (driver, connection, session)]
            for each in (provider, Provider.from_engine(engine, schema="tenant_7"), *joined):
                with pytest.raises(StoreNotReadyError, match=SAYS):
                    each.create_event(event())
        with pytest.raises(StoreNotReadyError, match=SAYS), provider.transaction() as tx:
            tx.get_runnable_events(at(0))


def save_new(provider: Provider, revision: int | None) -> None:
    """Create a workflow and save it with this revision."""
    instance = workflow()
    provider.create_new_workflow(instance)
    instance.revision = revision
    provider.persist_workflow(instance)


OLDER = {
    "before the column revision": "ALTER TABLE wfc.workflows DROP COLUMN revision CASCADE",
    "before the column position": "ALTER TABLE wfc.execution_pointers DROP COLUMN position",
    "before the primary key of pointers": "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_pkey",
}


@pytest.mark.parametrize("change", OLDER.values(), ids=OLDER)
def test_saves_with_an_outdated_schema_raise_store_not_ready(own_database: str, change: str) -> None:
    """Conditional and unconditional saves raise an error that names `wfe-postgres upgrade`."""
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(change.encode())
    with Provider(own_database) as provider:
        for revision in (1, None):
            with pytest.raises(StoreNotReadyError, match="wfe-postgres upgrade"):
                save_new(provider, revision)
