"""Events that were published before a pointer waited for them."""

from collections.abc import Sequence
from contextlib import suppress

from wfe_postgres.contract.errors import EventNotFoundError, SubscriptionNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import Event, EventSubscription, ExecutionPointer, PointerStatus
from wfe_postgres.host.activities import RESULT_EVENT
from wfe_postgres.host.executor import SUBSCRIPTION, Executor
from wfe_postgres.host.pointers import EPOCH, received_before
from wfe_postgres.host.primitives import ACTIVITY


def deliver_earlier_events(provider: PersistenceProvider, executor: Executor) -> bool:
    """Give each waiting pointer the earliest event that it accepts. False: there was none."""
    found = False
    for pointer in executor.instance.execution_pointers:
        if pointer.status is PointerStatus.WAITING_FOR_EVENT and SUBSCRIPTION in pointer.extension_attributes:
            event = _found_event(provider, executor, pointer)
            if event is not None:
                executor.deliver(pointer, event)
                found = True
    return found


def _found_event(provider: PersistenceProvider, executor: Executor, pointer: ExecutionPointer) -> Event | None:
    with suppress(SubscriptionNotFoundError):
        wait = provider.get_subscription(pointer.extension_attributes[SUBSCRIPTION])
        return earliest_event(provider, executor, pointer, wait)
    return None


def earliest_event(
    provider: PersistenceProvider, executor: Executor, pointer: ExecutionPointer, wait: EventSubscription
) -> Event | None:
    """The earliest event, up to now, that neither the pointer nor one before it has been given."""
    had = received_before(executor.instance, executor.definition, pointer)
    with suppress(EventNotFoundError):
        for id in events_since([wait], provider, len(had) + 1):
            if id not in had:
                event = provider.get_event(id)
                return event if event.event_time <= executor.now else None
    return None


def events_since(waits: Sequence[EventSubscription], provider: PersistenceProvider, limit: int) -> Sequence[str]:
    """The ids of the first events for one of the waits, which have one name and key, the earliest first."""
    wait = min(waits, key=lambda it: it.subscribe_as_of)
    if wait.event_name == ACTIVITY:
        return provider.get_events_since(RESULT_EVENT, wait.id, EPOCH, limit)
    return provider.get_events_since(wait.event_name, wait.event_key, wait.subscribe_as_of, limit)
