"""Activities: steps that are done by workers outside of the host."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from wfe_postgres.contract.errors import SubscriptionNotFoundError, SubscriptionTokenError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import Event
from wfe_postgres.host.primitives import ACTIVITY
from wfe_postgres.host.results import Time, seconds

RESULT_EVENT = "wfe.activity.result"
"""The name of the event that a result is; its key is the id of the subscription."""

_RESULTS = UUID("c2f3a9d0-5b1e-4d2c-8a70-1f0e6d9b7a44")
_UNTIL_DELIVERED = timedelta(days=3650)
"""For so long nobody else is given an activity whose result is there but has not reached the workflow."""


@dataclass(frozen=True)
class PendingActivity:
    """An activity that a worker holds until `lease_until`."""

    token: str
    """What the worker gives back with the result."""
    parameters: Any
    lease_until: datetime


class Activities:
    """Hands out activities and takes their results."""

    def __init__(self, provider: PersistenceProvider, clock: Callable[[], datetime]) -> None:
        self._provider = provider
        self._clock = clock

    def get_pending(self, name: str, worker_id: str, lease: Time) -> PendingActivity | None:
        """The activity of this name that has waited longest, for this worker until the lease expires."""
        while True:
            now = self._clock()
            found = self._provider.get_first_open_subscription(ACTIVITY, name, now)
            if found is None:
                return None
            token, until = f"{found.id}/{uuid4()}", now + timedelta(seconds=seconds(lease))
            try:
                if self._provider.set_subscription_token(found.id, token, worker_id, until):
                    return PendingActivity(token, found.subscription_data, until)
            except SubscriptionNotFoundError:
                continue

    def submit(self, token: str, *, succeeded: bool, result: Any) -> str:
        """Store the result; returns the id of its event.

        Raises `SubscriptionTokenError` if the lease has expired and somebody else holds the activity, and
        `SubscriptionNotFoundError` if nobody waits for it any more.
        """
        id = token.partition("/")[0]
        event = Event(
            RESULT_EVENT,
            id,
            {"succeeded": succeeded, "result": result},
            id=str(uuid5(_RESULTS, token)),
            event_time=self._clock(),
        )
        with self._provider.transaction() as tx:
            held = tx.get_subscription(id)
            if held.external_token != token or held.external_worker_id is None:
                raise SubscriptionTokenError(id)
            if not tx.set_subscription_token(id, token, held.external_worker_id, self._clock() + _UNTIL_DELIVERED):
                raise SubscriptionTokenError(id)
            tx.create_event(event, if_new=True)
        return event.id

    def release(self, token: str) -> None:
        """Give the activity back, so that another worker can take it. Raises as `submit` does."""
        self._provider.clear_subscription_token(token.partition("/")[0], token)
