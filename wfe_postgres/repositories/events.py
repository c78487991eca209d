"""Events in PostgreSQL."""

from datetime import datetime

from sqlalchemy import Executable

from wfe_postgres.codec.decoding import read_event
from wfe_postgres.codec.encoding import event_record
from wfe_postgres.codec.json_values import check_call_size
from wfe_postgres.codec.validation import count, text, timestamp
from wfe_postgres.connections import Execute
from wfe_postgres.contract.errors import EventNotFoundError
from wfe_postgres.contract.interfaces import EventRepository
from wfe_postgres.contract.models import Event
from wfe_postgres.repositories.base import Repository, id_or_new
from wfe_postgres.statements import events as statements


class PostgresEventRepository(Repository, EventRepository):
    """`EventRepository` on the table `events`. Every call is one statement.

    An id that is stored already: `PersistenceError` with its `constraint`.
    """

    def create_event(self, event: Event) -> str:
        id = id_or_new(event.id)
        record = event_record(event, id, self._max_payload_bytes)
        check_call_size("event_data", record["event_data"])

        def attempt(execute: Execute, may_have_committed: bool) -> None:
            execute(statements.CREATE_UNLESS_STORED if may_have_committed else statements.CREATE, record)

        self._runner.write(attempt, id)
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

    def get_events(self, event_name: str, event_key: str, as_of: datetime) -> list[str]:
        params = _matching(event_name, event_key) | {"as_of": timestamp(as_of, "as_of")}
        return [id for (id,) in self._runner.read(statements.MATCHING_UNTIL, params)]

    def get_events_since(self, event_name: str, event_key: str, since: datetime) -> list[str]:
        params = _matching(event_name, event_key) | {"since": timestamp(since, "since")}
        return [id for (id,) in self._runner.read(statements.MATCHING_SINCE, params)]

    def mark_event_processed(self, id: str) -> None:
        self._mark(statements.MARK_PROCESSED, id)

    def mark_event_unprocessed(self, id: str) -> None:
        self._mark(statements.MARK_UNPROCESSED, id)

    def _mark(self, statement: Executable, id: str) -> None:
        params = {"event_id": text(id, "id")}
        if not self._runner.write(lambda execute, _: execute(statement, params), id):
            raise EventNotFoundError(id)


def _matching(event_name: str, event_key: str) -> dict[str, str]:
    return {"event_name": text(event_name, "event_name"), "event_key": text(event_key, "event_key")}
