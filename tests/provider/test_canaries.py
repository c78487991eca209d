"""No error, no traceback and no log of the library repeats a row's value."""

import io
import logging
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import Sql
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
    """A workflow with a canary in every value, though not in its id."""
    it = pointer("p", persistence_data=CANARY, outcome={"x": CANARY}, step_name=CANARY, event_key=CANARY)
    given = {"data": {"secret": CANARY}, "description": CANARY, "reference": CANARY, "name": CANARY}
    return workflow(it, **{**given, **values})


def full_event(**values: Any) -> Any:
    """An event with canaries."""
    return event(**{"event_name": CANARY, "event_key": CANARY, "event_data": {"x": CANARY}, **values})


def full_subscription(**values: Any) -> Any:
    """A subscription with canaries."""
    secret = {"event_key": CANARY, "subscription_data": [CANARY], "external_token": CANARY}
    return subscription(**{**secret, **values})


REFUSED_BY_THE_DATABASE: dict[str, tuple[str, str, Call]] = {
    "a unique key": ("", "23505", lambda it: [it.create_event(full_event(id="e")) for _ in range(2)]),
    "a unique key of subscriptions": (
        "",
        "23505",
        lambda it: [it.create_event_subscription(full_subscription(id="s")) for _ in range(2)],
    ),
    "a check": (
        "ALTER TABLE wfc.events ADD CONSTRAINT no_canaries CHECK (event_key <> 'canary-of-the-values')",
        "23514",
        lambda it: it.create_event(full_event()),
    ),
    "a check of workflows": (
        "ALTER TABLE wfc.workflows ADD CONSTRAINT no_canaries CHECK (description IS NULL)",
        "23514",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "a check of pointers": (
        "ALTER TABLE wfc.execution_pointers ADD CONSTRAINT no_canaries CHECK (step_name IS NULL)",
        "23514",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "a check in a save": (
        "ALTER TABLE wfc.execution_pointers ADD CONSTRAINT no_canaries CHECK (retry_count < 1)",
        "23514",
        lambda it: save_with_retry(it),
    ),
    "not null": (
        "ALTER TABLE wfc.workflows ALTER complete_time SET NOT NULL",
        "23502",
        lambda it: it.create_new_workflow(full_of_canaries()),
    ),
    "a foreign key": (
        "ALTER TABLE wfc.events ADD CONSTRAINT no_canaries FOREIGN KEY (event_name) REFERENCES wfc.workflows",
        "23503",
        lambda it: it.create_event(full_event()),
    ),
    "a length": (
        "ALTER TABLE wfc.execution_errors ALTER message TYPE varchar(5)",
        "22001",
        lambda it: it.persist_errors([ExecutionError("w", "p", CANARY)]),
    ),
    "a cast": (
        "ALTER TABLE wfc.events ALTER event_key TYPE integer USING 1",
        "42804",
        lambda it: it.create_event(full_event()),
    ),
    "a trigger": (
        "CREATE TRIGGER raising BEFORE INSERT ON wfc.scheduled_commands FOR EACH ROW EXECUTE FUNCTION wfc.raising()",
        "P0001",
        lambda it: it.schedule_command(ScheduledCommand.process_event(CANARY, 1)),
    ),
    "a missing table": ("DROP TABLE wfc.events", "42P01", lambda it: it.create_event(full_event())),
    "a view instead of a table": (
        "ALTER TABLE wfc.events RENAME TO events_; CREATE VIEW wfc.events AS SELECT * FROM wfc.events_ LIMIT 1",
        "55000",
        lambda it: it.create_event(full_event()),
    ),
}


def save_with_retry(provider: PostgresRepositories) -> None:
    """A save that changes a count."""
    instance = created(provider, full_of_canaries(name=""))
    instance.execution_pointers[0].retry_count = 1
    provider.persist_workflow(instance)


RAISING = """
    CREATE FUNCTION wfc.raising() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no: %', NEW.data USING DETAIL = NEW.data, HINT = NEW.data; END $$
"""


@pytest.mark.parametrize(("breaking", "state", "call"), REFUSED_BY_THE_DATABASE.values(), ids=REFUSED_BY_THE_DATABASE)
def test_what_the_database_quotes_is_not_repeated(
    own_database: str, caplog: pytest.LogCaptureFixture, breaking: str, state: str, call: Call
) -> None:
    """The driver's error, which may quote a row, hangs on `original` and is nowhere else."""
    caplog.set_level(logging.DEBUG, logger="wfe_postgres")
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(RAISING)
        connection.execute(breaking.encode() or b"SELECT 1")
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


def test_the_original_is_there_for_a_debugger(provider: Provider) -> None:
    """It says what ours does not."""
    provider.create_event(event(id="e"))
    with pytest.raises(PersistenceError) as caught:
        provider.create_event(event(id="e"))
    assert caught.value.constraint == "events_pkey"
    assert "Key (id)=(e) already exists" in str(caught.value.original)


OUR_OWN: dict[str, Call] = {
    "taken": lambda it: [it.create_new_workflow(full_of_canaries(id="w", name="n")) for _ in range(2)],
    "stale": lambda it: save_twice(it),
    "unknown": lambda it: it.persist_workflow(full_of_canaries(name="n")),
    "held by another": lambda it: clear_anothers(it),
    "bad value": lambda it: it.create_new_workflow(full_of_canaries(data={"a": [CANARY, {CANARY}]})),
    "bad text": lambda it: it.create_event(full_event(event_key=CANARY + "\0")),
    "bad time": lambda it: it.create_event(full_event(event_time=CANARY)),
    "bad number": lambda it: it.create_new_workflow(full_of_canaries(version=CANARY)),
    "bad status": lambda it: it.create_new_workflow(full_of_canaries(status=CANARY)),
    "too long": lambda it: it.create_event(full_event(event_key=CANARY * 1000)),
    "bad cursor": lambda it: it.find_workflows(cursor=CANARY),
    "bad limit": lambda it: it.find_workflows(limit=CANARY),  # type: ignore[arg-type]
    "bad purge": lambda it: it.purge_workflows(CANARY, at(0)),  # type: ignore[arg-type]
}


def save_twice(provider: PostgresRepositories) -> None:
    """One of two loads of a workflow, saved after the other."""
    first = created(provider, full_of_canaries())
    second = provider.get_workflow_instance(first.id)
    for it in (first, second):
        it.data = {"again": CANARY}
        provider.persist_workflow(it)


def clear_anothers(provider: PostgresRepositories) -> None:
    """Another's token, with a token of one's own."""
    provider.clear_subscription_token(provider.create_event_subscription(full_subscription()), CANARY + "!")


@pytest.mark.parametrize("call", OUR_OWN.values(), ids=OUR_OWN)
def test_our_own_refusals_quote_no_value(provider: Provider, caplog: pytest.LogCaptureFixture, call: Call) -> None:
    """Only ids, and paths to values."""
    caplog.set_level(logging.DEBUG, logger="wfe_postgres")
    with pytest.raises((WfeError, ValueError)) as caught:
        call(provider)
    assert CANARY not in shown(caught.value)
    assert CANARY not in caplog.text


def test_a_corrupt_row_is_not_quoted(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by its error nor by the log of a list that leaves it out."""
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


def test_handlers_failures_are_their_own(provider: Provider) -> None:
    """They come as they were raised."""
    provider.schedule_command(command("a"))
    raised = LookupError("own")

    def fail(_: ScheduledCommand) -> None:
        raise raised

    with pytest.raises(ExceptionGroup) as caught:
        provider.process_commands(at(1), fail)
    assert caught.value.exceptions == (raised,)
    assert caught.value.__context__ is None


def test_a_traceback_as_a_host_prints_it(provider: Provider) -> None:
    """Printed as it is caught."""
    stream = io.StringIO()
    try:
        for _ in range(2):
            provider.create_event(full_event(id="e"))
    except PersistenceError:
        traceback.print_exc(file=stream)
    assert "events_pkey" in stream.getvalue()
    assert CANARY not in stream.getvalue()
