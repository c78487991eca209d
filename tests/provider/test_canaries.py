"""No error, traceback or log record of the library contains the values of a row."""

import io
import logging
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import Sql
from tests.provider.app import take_anothers_name
from tests.provider.canaries import CANARY, shown
from wfe_postgres import (
    CorruptRowError,
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    PostgresRepositories,
    ScheduledCommand,
    WfeError,
)
from wfe_postgres.testing.conformance.support import at, command, created, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[PostgresRepositories], object]


def full_of_canaries(**values: Any) -> Any:
    """A workflow with canaries in its values, but not in its id."""
    it = pointer("p", persistence_data=CANARY, outcome={"x": CANARY}, step_name=CANARY, event_key=CANARY)
    defaults = {"data": {"secret": CANARY}, "description": CANARY, "reference": CANARY, "name": CANARY}
    return workflow(it, **{**defaults, **values})


def full_event(**values: Any) -> Any:
    """An event with canaries."""
    return event(**{"event_name": CANARY, "event_key": CANARY, "event_data": {"x": CANARY}, **values})


def full_subscription(**values: Any) -> Any:
    """A subscription with canaries."""
    secret = {"event_key": CANARY, "subscription_data": [CANARY], "external_token": CANARY}
    return subscription(**{**secret, **values})


REJECTED_BY_THE_DATABASE: dict[str, tuple[str, str, Call]] = {
    "unique key of workflows": ("", "23505", lambda it: take_anothers_name(it, description=CANARY, data=[CANARY])),
    "check constraint of events": (
        "ALTER TABLE wfc.events ADD CONSTRAINT no_canaries CHECK (event_key <> 'canary-of-the-values')",
        "23514",
        lambda it: it.create_event(full_event()),
    ),
    "check constraint of workflows": (
        "ALTER TABLE wfc.workflows ADD CONSTRAINT no_canaries CHECK (description IS NULL)",
        "23514",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "check constraint of pointers": (
        "ALTER TABLE wfc.execution_pointers ADD CONSTRAINT no_canaries CHECK (step_name IS NULL)",
        "23514",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "check constraint in a save": (
        "ALTER TABLE wfc.execution_pointers ADD CONSTRAINT no_canaries CHECK (retry_count < 1)",
        "23514",
        lambda it: save_with_retry(it),
    ),
    "not null": (
        "ALTER TABLE wfc.workflows ALTER complete_time SET NOT NULL",
        "23502",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "foreign key": (
        "ALTER TABLE wfc.events ADD CONSTRAINT no_canaries FOREIGN KEY (event_name) REFERENCES wfc.workflows",
        "23503",
        lambda it: it.create_event(full_event()),
    ),
    "value too long": (
        "ALTER TABLE wfc.execution_errors ALTER message TYPE varchar(5)",
        "22001",
        lambda it: it.persist_errors([ExecutionError("w", "p", CANARY)]),
    ),
    "type mismatch": (
        "DROP INDEX wfc.idx_events_name_key_time; ALTER TABLE wfc.events ALTER event_key TYPE integer USING 1",
        "42804",
        lambda it: it.create_event(full_event()),
    ),
    "trigger": (
        "CREATE TRIGGER raising BEFORE INSERT ON wfc.scheduled_commands FOR EACH ROW EXECUTE FUNCTION wfc.raising()",
        "P0001",
        lambda it: it.schedule_command(ScheduledCommand.process_event(CANARY, 1)),
    ),
    "missing table": ("DROP TABLE wfc.events", "42P01", lambda it: it.create_event(full_event())),
    "view in place of a table": (
        "ALTER TABLE wfc.events RENAME TO events_; CREATE VIEW wfc.events AS SELECT * FROM wfc.events_ LIMIT 1",
        "55000",
        lambda it: it.create_event(full_event()),
    ),
}


def save_with_retry(provider: PostgresRepositories) -> None:
    """Save a workflow with a changed retry count."""
    instance = created(provider, full_of_canaries(name=""))
    instance.execution_pointers[0].retry_count = 1
    provider.persist_workflow(instance)


RAISING = """
    CREATE FUNCTION wfc.raising() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no: %', NEW.data USING DETAIL = NEW.data, HINT = NEW.data; END $$
"""


@pytest.mark.parametrize(("ddl", "state", "call"), REJECTED_BY_THE_DATABASE.values(), ids=REJECTED_BY_THE_DATABASE)
def test_database_errors_do_not_disclose_values(
    own_database: str, caplog: pytest.LogCaptureFixture, ddl: str, state: str, call: Call
) -> None:
    """The psycopg error, which can contain values of a row, is available only as `original`."""
    caplog.set_level(logging.DEBUG, logger="wfe_postgres")
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(RAISING)
        connection.execute(ddl.encode() or b"SELECT 1")
    with Provider(own_database) as provider:
        with pytest.raises(PersistenceError) as caught:
            call(provider)
        with pytest.raises(PersistenceError) as inside, provider.transaction() as tx:
            call(tx)
    for error in (caught.value, inside.value):
        assert error.sqlstate == state
        assert state in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert CANARY not in shown(error)
        assert isinstance(error.original, Exception)
        assert not error.retryable
    assert CANARY not in caplog.text


def test_original_error_has_the_message_of_the_server(provider: Provider) -> None:
    """`original` is the psycopg error, with the message of the server."""
    with pytest.raises(PersistenceError) as caught:
        take_anothers_name(provider)
    assert caught.value.constraint == "workflows_name_key"
    assert "Key (name)=(" in str(caught.value.original)


OUR_OWN: dict[str, Call] = {
    "event exists": lambda it: [it.create_event(full_event(id="e")) for _ in range(2)],
    "subscription exists": lambda it: [it.create_event_subscription(full_subscription(id="s")) for _ in range(2)],
    "id exists": lambda it: [it.create_new_workflow(full_of_canaries(id="w", name="n")) for _ in range(2)],
    "stale revision": lambda it: save_twice(it),
    "missing workflow": lambda it: it.persist_workflow(full_of_canaries(name="n")),
    "wrong token": lambda it: clear_with_wrong_token(it),
    "invalid JSON value": lambda it: it.create_new_workflow(full_of_canaries(data={"a": [CANARY, {CANARY}]})),
    "invalid text": lambda it: it.create_event(full_event(event_key=CANARY + "\0")),
    "invalid time": lambda it: it.create_event(full_event(event_time=CANARY)),
    "invalid number": lambda it: it.create_new_workflow(full_of_canaries(version=CANARY)),
    "invalid status": lambda it: it.create_new_workflow(full_of_canaries(status=CANARY)),
    "too long": lambda it: it.create_event(full_event(event_key=CANARY * 1000)),
    "invalid cursor": lambda it: it.find_workflows(cursor=CANARY),
    "invalid limit": lambda it: it.find_workflows(limit=CANARY),  # type: ignore[arg-type]
    "invalid status for a purge": lambda it: it.purge_workflows(CANARY, at(0)),  # type: ignore[arg-type]
}


def save_twice(provider: PostgresRepositories) -> None:
    """Save two loaded copies of a workflow, the second with a stale revision."""
    first = created(provider, full_of_canaries())
    second = provider.get_workflow_instance(first.id)
    for it in (first, second):
        it.data = {"again": CANARY}
        provider.persist_workflow(it)


def clear_with_wrong_token(provider: PostgresRepositories) -> None:
    """Clear the token of a subscription with a different token."""
    provider.clear_subscription_token(provider.create_event_subscription(full_subscription()), CANARY + "!")


@pytest.mark.parametrize("call", OUR_OWN.values(), ids=OUR_OWN)
def test_library_errors_do_not_disclose_values(
    provider: Provider, caplog: pytest.LogCaptureFixture, call: Call
) -> None:
    """They contain only ids and the paths of values."""
    caplog.set_level(logging.DEBUG, logger="wfe_postgres")
    with pytest.raises((WfeError, ValueError)) as caught:
        call(provider)
    assert CANARY not in shown(caught.value)
    assert CANARY not in caplog.text


def test_corrupt_row_errors_do_not_disclose_values(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither CorruptRowError nor the log record of a list call that skips the row contains its values."""
    caplog.set_level(logging.DEBUG, logger="wfe_postgres")
    provider.create_new_workflow(full_of_canaries(id="w", name="n"))
    for change in (f"status = '{CANARY}'", f"status = 'Runnable', data = '{{\"{CANARY}\": 1e5000}}'"):
        sql(f"UPDATE wfc.workflows SET {change}")
        with pytest.raises(CorruptRowError) as caught:
            provider.get_workflow_instance("w")
        assert CANARY not in shown(caught.value)
        assert provider.get_workflow_instances(["w"]) == []
    assert "'w'" in caplog.text
    assert CANARY not in caplog.text


def test_handler_exceptions_are_raised_unchanged(provider: Provider) -> None:
    """The exception group contains the exception object of the handler, without a context."""
    provider.schedule_command(command("a"))
    raised = LookupError("raised by the handler")

    def fail(_: ScheduledCommand) -> None:
        raise raised

    with pytest.raises(ExceptionGroup) as caught:
        provider.process_commands(at(1), fail)
    assert caught.value.exceptions == (raised,)
    assert caught.value.__context__ is None


def test_printed_traceback_does_not_disclose_values(provider: Provider) -> None:
    """`traceback.print_exc` within the except block prints no values."""
    stream = io.StringIO()
    try:
        take_anothers_name(provider, description=CANARY)
    except PersistenceError:
        traceback.print_exc(file=stream)
    assert "workflows_name_key" in stream.getvalue()
    assert CANARY not in stream.getvalue()
