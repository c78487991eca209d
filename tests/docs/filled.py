"""A database that is in use: an application's tables, and a store with the work of others."""

from datetime import UTC, datetime

import psycopg

from wfe_postgres import (
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)

POLL = 100
"""The default limit of a poll."""


def fill(url: str) -> None:
    """Create a store at the latest revision, whose workflows, events and commands resemble those of the pages."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE public.orders (id uuid PRIMARY KEY, buyer text NOT NULL)")
    with PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()
        workflows = [_order(provider, str(4701 + number)) for number in range(POLL + 20)]
        for workflow in workflows[:20]:
            workflow.status, workflow.complete_time = WorkflowStatus.COMPLETE, datetime.now(UTC)
            provider.persist_workflow(workflow)
            provider.persist_errors(
                [ExecutionError(workflow.id, workflow.execution_pointers[0].id, "ValueError: empty")]
            )
        for number in range(4711, 4716):
            provider.create_event(Event("paid", str(number), {"amount": 1}))
        for workflow in workflows[-10:]:
            provider.schedule_command(ScheduledCommand.process_workflow(workflow.id, 0))


def _order(provider: PostgresPersistenceProvider, number: str) -> WorkflowInstance:
    """Create an order that is due, and waits for a payment in another branch."""
    waiting = ExecutionPointer(1, step_name="charge", status=PointerStatus.WAITING_FOR_EVENT, active=False)
    waiting.event_name, waiting.event_key = "paid", number
    order = WorkflowInstance("order", 1, {"number": number, "lines": 1}, reference=number)
    order.execution_pointers += [ExecutionPointer(0, step_name="reserve"), waiting]
    provider.create_new_workflow(order)
    provider.create_event_subscription(EventSubscription(order.id, 1, waiting.id, "paid", number))
    return order
