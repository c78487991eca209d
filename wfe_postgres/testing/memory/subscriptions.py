"""Event subscriptions and their tokens in memory."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

from wfe_postgres.codec.encoding import encode_subscription
from wfe_postgres.codec.validation import text, timestamp
from wfe_postgres.contract.errors import SubscriptionExistsError, SubscriptionNotFoundError, SubscriptionTokenError
from wfe_postgres.contract.models import EventSubscription
from wfe_postgres.contract.repositories import SubscriptionRepository
from wfe_postgres.repositories.base import id_or_new
from wfe_postgres.testing.memory.store import InMemoryPart, Store, kept


def checked_subscription(subscription: EventSubscription, prefix: str, limit: int) -> EventSubscription:
    """The normalized subscription, with a new id if it is empty. Raises `SerializationError`."""
    new = replace(subscription, id=id_or_new(subscription.id))
    encode_subscription(new, new.id, prefix, limit)
    return kept(new)


def add_subscriptions(store: Store, new: Sequence[EventSubscription]) -> None:
    """Add all or none. Raises `SubscriptionExistsError`."""
    for it in new:
        if it.id in store.subscriptions:
            raise SubscriptionExistsError(it.id)
    store.subscriptions.update((it.id, it) for it in new)


class InMemorySubscriptions(InMemoryPart, SubscriptionRepository):
    """`SubscriptionRepository` on a `Store`."""

    def create_event_subscription(self, subscription: EventSubscription) -> str:
        """See `SubscriptionRepository`."""
        new = checked_subscription(subscription, "", self._limit)
        with self._store.lock:
            add_subscriptions(self._store, [new])
        subscription.id = new.id
        return new.id

    def get_subscription(self, id: str) -> EventSubscription:
        """See `SubscriptionRepository`."""
        with self._store.lock:
            return deepcopy(self._subscription(id))

    def get_subscriptions(self, event_name: str, event_key: str, as_of: datetime) -> list[EventSubscription]:
        """See `SubscriptionRepository`."""
        wanted = text(event_name, "event_name"), text(event_key, "event_key")
        timestamp(as_of, "as_of")
        return self._find(
            lambda it: (it.event_name, it.event_key) == wanted and it.subscribe_as_of <= as_of and self._is_open(it)
        )

    def get_first_open_subscription(self, event_name: str, event_key: str, as_of: datetime) -> EventSubscription | None:
        """See `SubscriptionRepository`."""
        return next(iter(self.get_subscriptions(event_name, event_key, as_of)), None)

    def get_workflow_subscriptions(self, workflow_id: str) -> list[EventSubscription]:
        """All subscriptions of a workflow, including held ones, oldest first."""
        wanted = text(workflow_id, "workflow_id")
        return self._find(lambda it: it.workflow_id == wanted)

    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        """See `SubscriptionRepository`."""
        text(token, "token")
        text(worker_id, "worker_id")
        timestamp(expiry, "expiry")
        with self._store.lock:
            it = self._subscription(id)
            if not self._is_open(it) and it.external_token != token:
                return False
            it.external_token, it.external_worker_id = token, worker_id
            it.external_token_expiry = expiry.astimezone(UTC)
            return True

    def clear_subscription_token(self, id: str, token: str) -> None:
        """See `SubscriptionRepository`."""
        text(token, "token")
        with self._store.lock:
            it = self._subscription(id)
            if it.external_token != token:
                raise SubscriptionTokenError(id)
            it.external_token = it.external_worker_id = it.external_token_expiry = None

    def terminate_subscription(self, id: str) -> None:
        """See `SubscriptionRepository`."""
        with self._store.lock:
            del self._store.subscriptions[self._subscription(id).id]

    def _is_open(self, it: EventSubscription) -> bool:
        expiry = it.external_token_expiry
        return it.external_token is None or (expiry is not None and expiry <= self._clock())

    def _subscription(self, subscription_id: str) -> EventSubscription:
        if text(subscription_id, "id") not in self._store.subscriptions:
            raise SubscriptionNotFoundError(subscription_id)
        return self._store.subscriptions[subscription_id]

    def _find(self, wanted: Callable[[EventSubscription], bool]) -> list[EventSubscription]:
        with self._store.lock:
            found = [deepcopy(it) for it in self._store.subscriptions.values() if wanted(it)]
        return sorted(found, key=lambda it: (it.subscribe_as_of, it.id))
