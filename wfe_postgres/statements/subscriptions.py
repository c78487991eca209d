"""Event subscriptions: each call is one statement; who holds one is decided by the database's clock."""

import sqlalchemy as sa

from wfe_postgres.codec.fields import SUBSCRIPTION_FIELDS
from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.statements.expressions import (
    builtin,
    equal_row,
    insert_new,
    json_row,
    text_parameter,
    texts_parameter,
    timestamp_parameter,
)
from wfe_postgres.statements.tables import subscriptions

_id = subscriptions.c.id
_token = subscriptions.c.external_token
_by_id = _id == text_parameter("subscription_id")
_held_by_caller = _token == text_parameter("token")
# Not now(): that is the time at which a surrounding transaction began.
IS_OPEN = sa.or_(_token.is_(None), subscriptions.c.external_token_expiry <= builtin.clock_timestamp())

CREATE = insert_new(subscriptions)
IS_STORED = equal_row(subscriptions, "external_token", "external_worker_id", "external_token_expiry")
STORED_OF = sa.select(_id).where(_id == sa.any_(texts_parameter("subscription_ids"))).order_by(_id).limit(1)

_read = sa.select(json_row(SUBSCRIPTION_FIELDS))
_oldest_first = _read.order_by(subscriptions.c.subscribe_as_of, _id)
GET = _read.where(_by_id)
OPEN = _oldest_first.where(
    subscriptions.c.event_name == text_parameter("event_name"),
    subscriptions.c.event_key == text_parameter("event_key"),
    subscriptions.c.subscribe_as_of <= timestamp_parameter("as_of"),
    IS_OPEN,
)
FIRST_OPEN = OPEN.limit(1)
OF_WORKFLOW = _oldest_first.where(subscriptions.c.workflow_id == text_parameter("workflow_id"))

# The second column of both: whether there is such a subscription at all, in the same round trip.
_exists = sa.select(_id).where(_by_id).exists()
_taken = (
    sa.update(subscriptions)
    .where(_by_id, sa.or_(IS_OPEN, _held_by_caller))
    .values(
        external_token=text_parameter("token"),
        external_worker_id=text_parameter("worker_id"),
        external_token_expiry=timestamp_parameter("expiry"),
    )
    .returning(_id, FORCE_SYNCHRONOUS_COMMIT)
    .cte("taken")
)
# The third: whether another's token stood there, which has expired if this one could be set.
_held_by_another = sa.select(_token.is_not(None) & ~_held_by_caller).where(_by_id).scalar_subquery()
SET_TOKEN = sa.select(sa.select(_taken.c.id).exists(), _exists, _held_by_another)

_cleared = (
    sa.update(subscriptions)
    .where(_by_id, _held_by_caller)
    .values(external_token=sa.null(), external_worker_id=sa.null(), external_token_expiry=sa.null())
    .returning(_id, FORCE_SYNCHRONOUS_COMMIT)
    .cte("cleared")
)
CLEAR_TOKEN = sa.select(sa.select(_cleared.c.id).exists(), _exists)

TOKEN = sa.select(_token).where(_by_id)
TERMINATE = sa.delete(subscriptions).where(_by_id).returning(_id, FORCE_SYNCHRONOUS_COMMIT)
