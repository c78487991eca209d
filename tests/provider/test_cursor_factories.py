"""Each value of a column's range, on an engine whose cursors bind or read values in another way."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from tests.provider.test_session_or_connection import use_everything
from wfe_postgres import (
    CommandName,
    PostgresPersistenceProvider,
    PostgresRepositories,
    ScheduledCommand,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import at, created, event, workflow

Provider = PostgresPersistenceProvider

LOWEST, HIGHEST = -(2**63), 2**63 - 1
TIMES = (datetime.min.replace(tzinfo=UTC), at(0), datetime.max.replace(tzinfo=UTC))
NUMBERS = (LOWEST, LOWEST + 1, -1, 0, HIGHEST)
TEXTS = ("\\", "''", '"', "%s", "%(a)s", "$1", ":a", "\\'; --", "ä\U0001f600")


class BinaryCursor(psycopg.Cursor[Any]):
    """Reads results in the binary format."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.format = psycopg.pq.Format.BINARY


ARGUMENTS: dict[str, dict[str, Any]] = {
    "client-side": {"cursor_factory": psycopg.ClientCursor},
    "binary": {"cursor_factory": BinaryCursor},
    "binary, prepared at once": {"cursor_factory": BinaryCursor, "prepare_threshold": 0},
    "prepared at once": {"prepare_threshold": 0},
    "never prepared": {"prepare_threshold": None},
    "named tuples": {"row_factory": namedtuple_row},
}


def use_extremes(provider: PostgresRepositories) -> None:
    """Values at the ends of the ranges are stored, compared and returned."""
    for number in NUMBERS:
        instance = created(provider, workflow(next_execution=number, version=2**31 - 1, reference="\\'%s"))
        assert instance.revision is not None
        instance.revision = provider.renew_workflow(instance.id, instance.revision, LOWEST)
        assert provider.get_workflow_instance(instance.id).next_execution == LOWEST
        instance.next_execution = number
        instance.data = list(TEXTS)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
        provider.schedule_command(ScheduledCommand(CommandName.PROCESS_EVENT, f"{number}", number))
    for time in TIMES:
        happened = event(event_time=time, event_data=[*NUMBERS, *TEXTS, 5e-324, 1.7e308, 10**400])
        provider.create_event(happened)
        assert provider.get_event(happened.id) == happened
        provider.get_runnable_instances(time, HIGHEST, definitions=[("order", 2**31 - 1)])
        provider.get_events("paid", "order-1", time, limit=HIGHEST)
        provider.get_subscriptions("paid", "order-1", time)
        provider.find_workflows(created_from=time, completed_to=time)
        provider.purge_workflows(WorkflowStatus.COMPLETE, time)
        provider.delete_orphans(time)
    for text in TEXTS:
        assert provider.find_workflows(name_prefix=text, reference=text).items == []


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_calls_work_with_the_cursors_of_the_engine(database_url: str, arguments: dict[str, Any]) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), connect_args=arguments)
    provider = Provider.from_engine(engine)
    with Provider(database_url, connect_args=arguments) as own:
        for each in (own, provider):
            each.ensure_store_exists()
            use_everything(each)
            use_extremes(each)
            each.truncate_all()
    with Session(engine) as session, engine.connect() as connection:
        for place in (session, connection):
            use_everything(provider.using(place))
            use_extremes(provider.using(place))
            place.rollback()
    engine.dispose()
