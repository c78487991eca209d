"""A provider works on while the store is upgraded from the last revision of the previous release, and after it."""

import threading
import time

import pytest
from alembic import command

from tests.conftest import Sql
from tests.migrations.stores import alembic, differences, upgrade_store
from tests.migrations.test_live_tables import in_a_thread, statements, wait_until
from wfe_postgres import ExecutionPointer, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.schema import HEAD

PREVIOUS = "0006"
MANY_POINTERS = """
    INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time)
      SELECT 'old' || n, 'old' || n, 'order', 1, 'Complete', now() FROM generate_series(1, 5000) n;
    INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status, persistence_data)
      SELECT gen_random_uuid(), w.id, 1, 'Complete', '{"tries": [1]}' FROM wfc.workflows w, generate_series(1, 10);
"""


def save_until(provider: PostgresPersistenceProvider, stop: threading.Event, waits: list[float]) -> WorkflowInstance:
    """Add, change and remove pointers of one workflow, which is loaded anew each time."""
    id = provider.create_new_workflow(WorkflowInstance("order", 1, execution_pointers=[ExecutionPointer(0)]))
    instance = provider.get_workflow_instance(id)
    while not stop.is_set():
        began = time.monotonic()
        instance.execution_pointers.append(ExecutionPointer(len(instance.execution_pointers)))
        instance.execution_pointers[0].retry_count += 1
        del instance.execution_pointers[1:-20]
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(id) == instance
        waits.append(time.monotonic() - began)
    return instance


@pytest.mark.parametrize("setup", ["", MANY_POINTERS], ids=["small", "large"])
def test_provider_saves_and_loads_during_upgrade(empty_database_url: str, sql: Sql, setup: str) -> None:
    alembic(empty_database_url, command.upgrade, PREVIOUS)
    sql(setup or "SELECT 1")
    stop, waits = threading.Event(), list[float]()
    with PostgresPersistenceProvider(empty_database_url) as provider:
        with in_a_thread(save_until, provider, stop, waits) as host:
            try:
                wait_until(lambda: len(waits) > 20)
                with statements() as sent:
                    upgrade_store(empty_database_url)
                before = len(waits)
                wait_until(lambda: len(waits) > before + 20)
            finally:
                stop.set()
            saved = host.result(timeout=30)
        assert isinstance(saved, WorkflowInstance)
        assert provider.get_workflow_instance(saved.id) == saved
    assert any(HEAD in statement and "UPDATE wfc.alembic_version" in statement for statement in sent)
    assert max(waits) < 4
    assert differences(empty_database_url) == []
