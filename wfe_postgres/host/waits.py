"""Events that were published before a pointer waited for them."""

from contextlib import suppress

from wfe_postgres.contract.errors import EventNotFoundError, SubscriptionNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import Event, ExecutionPointer, PointerStatus
from wfe_postgres.host.activities import RESULT_EVENT
from wfe_postgres.host.executor import SUBSCRIPTION, Executor
from wfe_postgres.host.pointers import EPOCH, received_before
from wfe_postgres.host.primitives import ACTIVITY


def deliver_earlier_events(provider: PersistenceProvider, executor: Executor) -> bool:
    """Give each waiting pointer the earliest event that it accepts. False: there was none."""
    found = False
    for pointer in executor.instance.execution_pointers:
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and SUBSCRIPTION in pointer.extension_attributes:
            event = _earlier_event(provider, executor, pointer)
            if event is not None:
                executor.deliver(pointer, event)
                found = True
    return found


def _earlier_event(provider: PersistenceProvider, executor: Executor, pointer: ExecutionPointer) -> Event | None:
    had = received_before(executor.instance, executor.definition, pointer)
    with suppress(SubscriptionNotFoundError, EventNotFoundError):
        wait = provider.get_subscription(pointer.extension_attributes[SUBSCRIPTION])
        if wait.event_name == ACTIVITY:
            ids = provider.get_events_since(RESULT_EVENT, wait.id, EPOCH, limit=len(had) + 1)
        else:
            ids = provider.get_events_since(wait.event_name, wait.event_key, wait.subscribe_as_of, limit=len(had) + 1)
        for id in ids:
            if id not in had:
                event = provider.get_event(id)
                return event if event.event_time <= executor.now else None
    return None
