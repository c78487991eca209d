"""Hosts in the process of the test, and what the store says of a workflow."""

from typing import Any

from tests.conftest import Sql
from wfe_postgres import ExecutionPointer, PersistenceProvider, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.host import WorkflowDefinition, WorkflowHost

POLL = {"poll_interval": 0.05}
ERRORS = "SELECT message FROM wfc.execution_errors WHERE workflow_id = %s ORDER BY id"
SUBSCRIPTIONS = "SELECT count(*) FROM wfc.event_subscriptions WHERE workflow_id = %s"


def host_of(provider: PersistenceProvider, *definitions: WorkflowDefinition, **options: Any) -> WorkflowHost:
    """Return a host that polls often."""
    return WorkflowHost(provider, definitions, **{**POLL, **options})


def run(
    provider: PersistenceProvider, definition: WorkflowDefinition, data: Any = None, **options: Any
) -> WorkflowInstance:
    """Start a workflow, do all that is due, and return the workflow as it is stored then."""
    host = host_of(provider, definition, **options)
    id = host.start_workflow(definition.id, data)
    host.run_until_idle()
    return provider.get_workflow_instance(id)


def pointer_of(workflow: WorkflowInstance, step: str) -> ExecutionPointer:
    """Return the only pointer of the step."""
    [pointer] = [it for it in workflow.execution_pointers if it.step_name == step]
    return pointer


def errors_of(sql: Sql, workflow: WorkflowInstance) -> list[str]:
    """Return the texts of the workflow's errors, the oldest first."""
    return [message for (message,) in sql(ERRORS, [workflow.id])]


def subscriptions_of(sql: Sql, workflow: WorkflowInstance) -> int:
    """Return the number of the workflow's subscriptions."""
    return int(sql(SUBSCRIPTIONS, [workflow.id])[0][0])


def database(provider: PostgresPersistenceProvider) -> str:
    """Return the name of the database."""
    return str(provider.engine.url.database)
