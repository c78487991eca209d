"""Event subscriptions in PostgreSQL, locked by token."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.codec.decoding import read_subscription
from wfe_postgres.codec.encoding import subscription_record
from wfe_postgres.codec.json_values import check_call_size, encode
from wfe_postgres.codec.validation import text, timestamp
from wfe_postgres.connections import Execute
from wfe_postgres.contract.errors import (
    OutcomeUnknownError,
    SubscriptionExistsError,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
)
from wfe_postgres.contract.models import EventSubscription
from wfe_postgres.contract.repositories import SubscriptionRepository
from wfe_postgres.repositories.base import Repository, create_once, id_or_new, logger, read_all
from wfe_postgres.statements import subscriptions as statements


class PostgresSubscriptionRepository(Repository, SubscriptionRepository):
    """`SubscriptionRepository` on the table `event_subscriptions`. Every call is one statement.

    In lists, a row that cannot be read is left out and its id is logged.
    """

    def create_event_subscription(self, subscription: EventSubscription) -> str:
        id = id_or_new(subscription.id)
        record = subscription_record(subscription, id)
        data = subscription.subscription_data
        record["subscription_data"] = (
            None if data is None else encode(data, "subscription_data", self._max_payload_bytes)
        )
        check_call_size("subscription_data", record["subscription_data"])
        if not self._runner.write(partial(create_once, statements.CREATE, statements.IS_STORED, record), id):
            raise SubscriptionExistsError(id)
        subscription.id = id
        return id

    def get_subscription(self, id: str) -> EventSubscription:
        rows = self._runner.read(statements.GET, {"subscription_id": text(id, "id")})
        if not rows:
            raise SubscriptionNotFoundError(id)
        return read_subscription(rows[0][0])

    def get_subscriptions(self, event_name: str, event_key: str, as_of: datetime) -> list[EventSubscription]:
        return self._read(statements.OPEN, _matching(event_name, event_key, as_of))

    def get_first_open_subscription(self, event_name: str, event_key: str, as_of: datetime) -> EventSubscription | None:
        params = _matching(event_name, event_key, as_of)
        first = self._runner.read(statements.FIRST_OPEN, params)
        # One that cannot be read must not hide the others.
        return next(iter(_readable(first) or (first and self._read(statements.OPEN, params))), None)

    def get_workflow_subscriptions(self, workflow_id: str) -> list[EventSubscription]:
        """What the workflow waits for, oldest first: its subscriptions, held ones too."""
        return self._read(statements.OF_WORKFLOW, {"workflow_id": text(workflow_id, "workflow_id")})

    def set_subscription_token(self, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
        params = _token_of(id, token) | {
            "worker_id": text(worker_id, "worker_id"),
            "expiry": timestamp(expiry, "expiry"),
        }
        [(taken, exists, held)] = self._runner.write(lambda execute, _: execute(statements.SET_TOKEN, params), id)
        if not exists:
            raise SubscriptionNotFoundError(id)
        if taken and held:
            logger.warning("worker %r took over subscription %r, whose token had expired", worker_id, id)
        return bool(taken)

    def clear_subscription_token(self, id: str, token: str) -> None:
        params = _token_of(id, token)

        def attempt(execute: Execute, may_have_committed: bool) -> tuple[bool, bool]:
            [(cleared, exists)] = execute(statements.CLEAR_TOKEN, params)
            if may_have_committed and not cleared:
                _require_cleared(execute, id)
                return True, True
            return cleared, exists

        cleared, exists = self._runner.write(attempt, id)
        if not exists:
            raise SubscriptionNotFoundError(id)
        if not cleared:
            raise SubscriptionTokenError(id)

    def terminate_subscription(self, id: str) -> None:
        params = {"subscription_id": text(id, "id")}

        def attempt(execute: Execute, may_have_committed: bool) -> bool:
            return bool(execute(statements.TERMINATE, params)) or may_have_committed

        if not self._runner.write(attempt, id):
            raise SubscriptionNotFoundError(id)

    def _read(self, statement: Executable, params: dict[str, Any]) -> list[EventSubscription]:
        return _readable(self._runner.read(statement, params))


def _readable(rows: Sequence[Any]) -> list[EventSubscription]:
    return read_all((json_row for (json_row,) in rows), read_subscription)


def _matching(event_name: str, event_key: str, as_of: datetime) -> dict[str, str]:
    return {
        "event_name": text(event_name, "event_name"),
        "event_key": text(event_key, "event_key"),
        "as_of": timestamp(as_of, "as_of"),
    }


def _token_of(id: str, token: str) -> dict[str, str]:
    return {"subscription_id": text(id, "id"), "token": text(token, "token")}


def _require_cleared(execute: Execute, id: str) -> None:
    """After a lost answer: an open subscription is what was asked for; another's token tells nothing."""
    tokens: Sequence[Any] = execute(statements.TOKEN, {"subscription_id": id})
    if not tokens or tokens[0][0] is not None:
        reason = "the connection was lost, and the subscription has changed since"
        raise OutcomeUnknownError(reason, (id,))
