"""Broken providers: wrong behavior of events, subscriptions or their values."""

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from wfe_postgres.contract.errors import SubscriptionNotFoundError, WfeError
from wfe_postgres.contract.models import Event, EventSubscription
from wfe_postgres.testing import InMemoryPersistenceProvider

ROUND_TRIP = 0.001  # seconds, as between two statements sent to a database

TOKYO = timezone(timedelta(hours=9))


class TokenReadThenWritten(InMemoryPersistenceProvider):
    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        found = self.get_subscription(id)
        time.sleep(ROUND_TRIP)
        if not self._is_open(found) and found.external_token != token:
            return False
        self._store.subscriptions[id] = replace(
            found, external_token=token, external_worker_id=worker_id, external_token_expiry=expiry
        )
        return True


class TokensAlwaysExpire(InMemoryPersistenceProvider):
    def _is_open(self, it: EventSubscription) -> bool:
        return it.external_token_expiry is None or it.external_token_expiry <= self._clock()


class TokensNeverExpire(InMemoryPersistenceProvider):
    def _is_open(self, it: EventSubscription) -> bool:
        return it.external_token is None


class RenewalRefused(InMemoryPersistenceProvider):
    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        taken = self._is_open(self.get_subscription(id))
        return taken and super().set_subscription_token(id, token, worker_id, expiry)


class AnyTokenClears(InMemoryPersistenceProvider):
    def clear_subscription_token(self, id: str, token: str) -> None:
        super().clear_subscription_token(id, self.get_subscription(id).external_token or token)


class TerminationOfNothing(InMemoryPersistenceProvider):
    def terminate_subscription(self, id: str) -> None:
        try:
            super().terminate_subscription(id)
        except SubscriptionNotFoundError:
            return


class ProcessedEventsHidden(InMemoryPersistenceProvider):
    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        found = super().get_events(event_name, event_key, as_of, limit)
        return [it for it in found if not self.get_event(it).is_processed]


class AnyKeyMatches(InMemoryPersistenceProvider):
    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        return self._ids(lambda it: it.event_name == event_name and it.event_time <= as_of)


class EventOverwritten(InMemoryPersistenceProvider):
    def create_event(self, event: Event, *, if_new: bool = False) -> str:
        self._store.events.pop(event.id, None)
        return super().create_event(event, if_new=if_new)


class NumbersAsInJsonb(InMemoryPersistenceProvider):
    """Returns large floats as integers, as jsonb does for their shortest representation."""

    def get_event(self, id: str) -> Event:
        found = super().get_event(id)
        if isinstance(found.event_data, float) and abs(found.event_data) >= 1e16:
            digits, _, exponent = f"{found.event_data!r}".partition("e+")
            whole, _, fraction = digits.partition(".")
            found.event_data = int(whole + fraction.ljust(int(exponent), "0"))
        return found


class TimesInLocalOffset(InMemoryPersistenceProvider):
    def get_event(self, id: str) -> Event:
        found = super().get_event(id)
        return replace(found, event_time=found.event_time.astimezone(TOKYO))


class MicrosecondsTruncated(InMemoryPersistenceProvider):
    def get_event(self, id: str) -> Event:
        found = super().get_event(id)
        return replace(found, event_time=found.event_time.replace(microsecond=0))


class InvalidJsonStoredAsText(InMemoryPersistenceProvider):
    def create_event(self, event: Event, *, if_new: bool = False) -> str:
        try:
            return super().create_event(event, if_new=if_new)
        except WfeError:
            return super().create_event(replace(event, event_data=str(event.event_data)), if_new=if_new)
