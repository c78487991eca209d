"""Events in memory."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from wfe_postgres.codec.encoding import event_record
from wfe_postgres.codec.validation import count, text, timestamp
from wfe_postgres.contract.errors import EventExistsError, EventNotFoundError
from wfe_postgres.contract.models import Event
from wfe_postgres.contract.repositories import EventRepository
from wfe_postgres.repositories.base import id_or_new
from wfe_postgres.testing.memory.store import InMemoryPart, kept


class InMemoryEvents(InMemoryPart, EventRepository):
    """`EventRepository` on a `Store`."""

    def create_event(self, event: Event, *, if_new: bool = False) -> str:
        """See `EventRepository`."""
        new = replace(event, id=id_or_new(event.id))
        event_record(new, new.id, self._limit)
        with self._store.lock:
            if new.id not in self._store.events:
                self._store.events[new.id] = kept(new)
            elif not if_new:
                raise EventExistsError(new.id)
        event.id = new.id
        return new.id

    def get_event(self, id: str) -> Event:
        """See `EventRepository`."""
        with self._store.lock:
            return deepcopy(self._event(id))

    def get_runnable_events(self, as_at: datetime, limit: int | None = None) -> list[str]:
        """See `EventRepository`."""
        timestamp(as_at, "as_at")
        maximum = count(limit, "limit")
        return self._ids(lambda it: not it.is_processed and it.event_time <= as_at)[:maximum]

    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        """See `EventRepository`."""
        wanted = text(event_name, "event_name"), text(event_key, "event_key")
        timestamp(as_of, "as_of")
        maximum = count(limit, "limit")
        return self._ids(lambda it: (it.event_name, it.event_key) == wanted and it.event_time <= as_of)[:maximum]

    def get_events_since(self, event_name: str, event_key: str, since: datetime, limit: int | None = None) -> list[str]:
        """See `EventRepository`."""
        wanted = text(event_name, "event_name"), text(event_key, "event_key")
        timestamp(since, "since")
        maximum = count(limit, "limit")
        return self._ids(lambda it: (it.event_name, it.event_key) == wanted and it.event_time >= since)[:maximum]

    def mark_event_processed(self, id: str) -> None:
        """See `EventRepository`."""
        with self._store.lock:
            self._event(id).is_processed = True

    def mark_event_unprocessed(self, id: str) -> None:
        """See `EventRepository`."""
        with self._store.lock:
            self._event(id).is_processed = False

    def _event(self, event_id: str) -> Event:
        if text(event_id, "id") not in self._store.events:
            raise EventNotFoundError(event_id)
        return self._store.events[event_id]

    def _ids(self, wanted: Callable[[Event], bool]) -> list[str]:
        with self._store.lock:
            found = [(it.event_time, it.id) for it in self._store.events.values() if wanted(it)]
        return [event_id for _, event_id in sorted(found)]
