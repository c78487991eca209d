"""Events in PostgreSQL."""

from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.codec.decoding import read_event
from wfe_postgres.codec.encoding import event_record
from wfe_postgres.codec.json_values import check_call_size
from wfe_postgres.codec.validation import count, text, timestamp
from wfe_postgres.contract.errors import EventExistsError, EventNotFoundError
from wfe_postgres.contract.models import Event
from wfe_postgres.contract.repositories import EventRepository
from wfe_postgres.repositories.base import Repository, create_once, id_or_new
from wfe_postgres.statements import events as statements


class PostgresEventRepository(Repository, EventRepository):
    """`EventRepository` on the table `events`. Every call is one statement."""

    def create_event(self, event: Event, *, if_new: bool = False) -> str:
        id = id_or_new(event.id)
        record = event_record(event, id, self._max_payload_bytes)
        check_call_size("event_data", record["event_data"])
        is_stored = self._runner.write(partial(create_once, statements.CREATE, statements.IS_STORED, record), id)
        if not (is_stored or if_new):
            raise EventExistsError(id)
        event.id = id
        return id

    def get_event(self, id: str) -> Event:
        rows = self._runner.read(statements.GET, {"event_id": text(id, "id")})
        if not rows:
            raise EventNotFoundError(id)
        return read_event(rows[0][0])

    def get_runnable_events(self, as_at: datetime, limit: int | None = None) -> list[str]:
        params = {"as_at": timestamp(as_at, "as_at"), "limit": count(limit, "limit")}
        return [id for (id,) in self._runner.read(statements.RUNNABLE, params)]

    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        params = _matching(event_name, event_key, limit) | {"as_of": timestamp(as_of, "as_of")}
        return [id for (id,) in self._runner.read(statements.MATCHING_UNTIL, params)]

    def get_events_since(self, event_name: str, event_key: str, since: datetime, limit: int | None = None) -> list[str]:
        params = _matching(event_name, event_key, limit) | {"since": timestamp(since, "since")}
        return [id for (id,) in self._runner.read(statements.MATCHING_SINCE, params)]

    def mark_event_processed(self, id: str) -> None:
        self._mark(statements.MARK_PROCESSED, id)

    def mark_event_unprocessed(self, id: str) -> None:
        self._mark(statements.MARK_UNPROCESSED, id)

    def _mark(self, statement: Executable, id: str) -> None:
        params = {"event_id": text(id, "id")}
        if not self._runner.write(lambda execute, _: execute(statement, params), id):
            raise EventNotFoundError(id)


def _matching(event_name: str, event_key: str, limit: int | None) -> dict[str, Any]:
    matching = {"event_name": text(event_name, "event_name"), "event_key": text(event_key, "event_key")}
    return matching | {"limit": count(limit, "limit")}
