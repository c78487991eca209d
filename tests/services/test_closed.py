"""Services that were closed: each call is refused, and nothing connects or listens again."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from wfe_postgres import PersistenceError
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType, QueueType
from wfe_postgres.services import PostgresLifecyclePublisher, PostgresLockProvider, PostgresQueueProvider

EVENT = LifecycleEvent(
    type=LifecycleEventType.STARTED,
    event_time=datetime(2026, 1, 1, tzinfo=UTC),
    workflow_id="id",
    workflow_definition_id="order",
    version=1,
)
CALLS: list[tuple[type[Any], str, tuple[Any, ...], dict[str, Any]]] = [
    (PostgresQueueProvider, "start", (), {}),
    (PostgresQueueProvider, "queue_work", ("id", QueueType.WORKFLOW), {}),
    (PostgresQueueProvider, "dequeue_work", (QueueType.WORKFLOW,), {}),
    (PostgresQueueProvider, "dequeue_work", (QueueType.WORKFLOW,), {"timeout": 0.1}),
    (PostgresLockProvider, "start", (), {}),
    (PostgresLockProvider, "acquire_lock", ("id",), {}),
    (PostgresLifecyclePublisher, "start", (), {}),
    (PostgresLifecyclePublisher, "publish", (EVENT,), {}),
    (PostgresLifecyclePublisher, "subscribe", (print,), {}),
    (PostgresLifecyclePublisher, "ensure_store_exists", (), {}),
]


@pytest.mark.parametrize(
    ("make", "name", "arguments", "keywords"), CALLS, ids=[f"{it[0].__name__}.{it[1]} {len(it[3])}" for it in CALLS]
)
def test_call_of_a_closed_service_is_refused_and_opens_no_connection(
    make: type[Any], name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], database_url: str
) -> None:
    service = make(database_url)
    service.close()
    pool, before = service.engine.pool, set(threading.enumerate())
    try:
        with pytest.raises(PersistenceError, match="closed"):
            getattr(service, name)(*arguments, **keywords)
        assert pool.checkedin() + pool.checkedout() == 0
        assert set(threading.enumerate()) <= before
    finally:
        service.stop()
        service.close()
