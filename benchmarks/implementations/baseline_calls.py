"""The baseline of calls on events, subscriptions, polls and errors: one hand-written psycopg statement per call."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from benchmarks.implementations.baseline import connect
from wfe_postgres import Event, ExecutionError

_CREATE_EVENT = """
INSERT INTO wfc.events (id, event_name, event_key, event_data, event_time, is_processed)
VALUES (%s, %s, %s, %s::jsonb, %s, %s)
"""
_GET_EVENT = (
    "SELECT id, event_name, event_key, event_data::text, event_time, is_processed FROM wfc.events WHERE id = %s"
)
_MARK = "UPDATE wfc.events SET is_processed = true WHERE id = %s RETURNING id"
_SET_TOKEN = """
UPDATE wfc.event_subscriptions
   SET external_token = %(token)s, external_worker_id = %(worker)s, external_token_expiry = %(expiry)s
 WHERE id = %(id)s
   AND (external_token IS NULL OR external_token_expiry <= clock_timestamp() OR external_token = %(token)s)
RETURNING id
"""
_RUNNABLE = """
SELECT id FROM wfc.workflows WHERE status = 'Runnable' AND next_execution <= %s ORDER BY next_execution, id
"""
_PERSIST_ERRORS = """
INSERT INTO wfc.execution_errors (workflow_id, execution_pointer_id, message, error_time)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
"""


class BaselineCalls:
    """One statement per call, on one connection."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)

    def create_event(self, event: Event) -> None:
        """Store a new event."""
        values = (event.id, event.event_name, event.event_key, orjson.dumps(event.event_data).decode())
        self._connection.execute(_CREATE_EVENT, (*values, event.event_time, event.is_processed))

    def get_event(self, id: str) -> Event:
        """Load an event."""
        row = self._connection.execute(_GET_EVENT, [id]).fetchone()
        assert row, "no such event"
        return Event(row[1], row[2], orjson.loads(row[3]), id=row[0], event_time=row[4], is_processed=row[5])

    def mark_event_processed(self, id: str) -> None:
        """Mark an event as processed."""
        assert self._connection.execute(_MARK, [id]).fetchone(), "no such event"

    def set_subscription_token(self, id: str, token: str, worker: str, expiry: datetime) -> bool:
        """Set the token; True if the caller holds the subscription."""
        values = {"id": id, "token": token, "worker": worker, "expiry": expiry}
        return self._connection.execute(_SET_TOKEN, values).fetchone() is not None

    def get_runnable_instances(self, as_at: datetime) -> list[str]:
        """The ids of due workflows, earliest first."""
        return [id for (id,) in self._connection.execute(_RUNNABLE, [int(as_at.timestamp() * 1000)])]

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """Store the errors with one `unnest` insert."""
        workflow_ids = [error.workflow_id for error in errors]
        pointer_ids = [error.execution_pointer_id for error in errors]
        messages = [error.message for error in errors]
        times = [error.error_time for error in errors]
        self._connection.execute(_PERSIST_ERRORS, (workflow_ids, pointer_ids, messages, times))

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()
