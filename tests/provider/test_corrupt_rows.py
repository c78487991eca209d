"""Rows that another program broke: one that is asked for is named, a list goes on without it, nothing stops."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Sql
from wfe_postgres import (
    CorruptRowError,
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import at, command, created, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider

DEEP = "[" * 3000 + "]" * 3000
"""Nested deeper than some Pythons read."""


def readable(text: str) -> bool:
    """Whether this Python reads the JSON."""
    try:
        json.loads(text)
    except RecursionError:
        return False
    return True


NUMBER = "'{\"price\": 1e5000}'"
NESTED = f"'{DEEP}'"
WORKFLOWS = {
    "an unknown status": ("status", "'Sleeping'"),
    "a number of 5,001 digits": ("data", NUMBER),
    "an endless time": ("create_time", "'infinity'"),
    "a time before all time": ("create_time", "'-infinity'"),
    "the year 4713 BC": ("create_time", "'4713-01-01 00:00:00+00 BC'"),
    "the year 12000": ("create_time", "'12000-01-01 00:00:00+00'"),
    "an endless end": ("complete_time", "'infinity'"),
}
POINTERS = {
    "an unknown status": ("status", "'Runnable'"),
    "a number of 5,001 digits": ("persistence_data", NUMBER),
    "a number in an outcome": ("outcome", NUMBER),
    "an endless sleep": ("sleep_until", "'infinity'"),
    "a start before all time": ("start_time", "'-infinity'"),
    "an end in 4713 BC": ("end_time", "'4713-01-01 00:00:00+00 BC'"),
    "no event_published": ("event_published", "NULL"),
    "no retry_count": ("retry_count", "NULL"),
    "no children": ("children", "NULL"),
    "children that are no list": ("children", "'{\"a\": 1}'"),
    "children that are JSON null": ("children", "'null'"),
    "no scope": ("scope", "NULL"),
    "a scope that is a text": ("scope", "'\"outer\"'"),
    "no extension_attributes": ("extension_attributes", "NULL"),
    "extension_attributes that are a list": ("extension_attributes", "'[]'"),
}
EVENTS = {
    "a number of 5,001 digits": ("event_data", NUMBER),
    "an endless time": ("event_time", "'infinity'"),
    "a time before all time": ("event_time", "'-infinity'"),
    "no is_processed": ("is_processed", "NULL"),
}
SUBSCRIPTIONS = {
    "a number of 5,001 digits": ("subscription_data", NUMBER),
    "a time before all time": ("subscribe_as_of", "'-infinity'"),
    "the year 4713 BC": ("subscribe_as_of", "'4713-01-01 00:00:00+00 BC'"),
}
if not readable(DEEP):
    WORKFLOWS["nested too deeply"] = ("data", NESTED)
    POINTERS["nested too deeply"] = ("event_data", NESTED)
    EVENTS["nested too deeply"] = ("event_data", NESTED)
    SUBSCRIPTIONS["nested too deeply"] = ("subscription_data", NESTED)


def refusing(call: Callable[[], object], table: str, row_id: str, column: str) -> None:
    """The call names the row, and quotes nothing of it."""
    with pytest.raises(CorruptRowError) as caught:
        call()
    error = caught.value
    assert (error.table, error.row_id, error.column) == (table, row_id, column)
    assert all(it in str(error) for it in (table, row_id, column))
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not error.retryable


def logged(caplog: pytest.LogCaptureFixture, row_id: str) -> bool:
    """Whether the library has logged an error with this id; forgets it."""
    found = [it for it in caplog.records if it.name == "wfe_postgres" and it.levelno >= logging.ERROR]
    caplog.clear()
    return any(row_id in it.getMessage() for it in found)


@pytest.mark.parametrize(("column", "value"), WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str) -> None:
    """By id and by name it is a CorruptRowError; lists leave it out and log its id; polling goes on."""
    good = created(provider, workflow(id="good", next_execution=2))
    provider.create_new_workflow(workflow(id="bad", next_execution=1))
    sql(f"UPDATE wfc.workflows SET {column} = {value} WHERE id = 'bad'")
    refusing(lambda: provider.get_workflow_instance("bad"), "workflows", "bad", column)
    refusing(lambda: provider.get_workflow_instance_by_name("bad"), "workflows", "bad", column)
    assert provider.get_workflow_instances(["bad", "good"]) == [good]
    assert logged(caplog, "bad")
    assert provider.get_runnable_instances(at(0)) == (["good"] if column == "status" else ["bad", "good"])
    assert [it.id for it in provider.find_workflows().items] == ["good"] or column == "data"
    assert logged(caplog, "bad") or column == "data"
    provider.get_statistics()


@pytest.mark.parametrize(("column", "value"), POINTERS.values(), ids=POINTERS)
def test_a_pointer(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str) -> None:
    """The pointer is named; lists leave its workflow out and log both ids."""
    good = created(provider, workflow(id="good"))
    provider.create_new_workflow(workflow(pointer("first"), pointer("broken"), pointer("last"), id="whole"))
    sql(f"UPDATE wfc.execution_pointers SET {column} = {value} WHERE id = 'broken'")
    refusing(lambda: provider.get_workflow_instance("whole"), "execution_pointers", "broken", column)
    assert provider.get_workflow_instances(["good", "whole"]) == [good]
    assert any("whole" in it.getMessage() and "broken" in it.getMessage() for it in caplog.records)
    assert len(provider.get_runnable_instances(at(0))) == 2


@pytest.mark.parametrize(("column", "value"), EVENTS.values(), ids=EVENTS)
def test_an_event(provider: Provider, sql: Sql, column: str, value: str) -> None:
    """It is named; the poll loop, which asks for ids alone, goes on; the statistics still count."""
    provider.create_event(event(id="good"))
    provider.create_event(event(id="bad"))
    sql(f"UPDATE wfc.events SET {column} = {value} WHERE id = 'bad'")
    refusing(lambda: provider.get_event("bad"), "events", "bad", column)
    assert "good" in provider.get_runnable_events(at(0))
    assert "good" in provider.get_events("paid", "order-1", at(0))
    assert provider.get_statistics().unprocessed_events == (1 if column == "is_processed" else 2)
    provider.mark_event_processed("bad")
    assert provider.get_runnable_events(at(0)) == ["good"]


@pytest.mark.parametrize(("column", "value"), SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
def test_a_subscription(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """It is named; lists leave it out and log its id; the first open one is the first that can be read."""
    provider.create_event_subscription(subscription(id="bad", subscribe_as_of=at(-1)))
    good = subscription(id="good")
    provider.create_event_subscription(good)
    sql(f"UPDATE wfc.event_subscriptions SET {column} = {value} WHERE id = 'bad'")
    refusing(lambda: provider.get_subscription("bad"), "event_subscriptions", "bad", column)
    assert provider.get_subscriptions("paid", "order-1", at(0)) == [good]
    assert logged(caplog, "bad")
    assert provider.get_workflow_subscriptions("workflow-1") == [good]
    assert logged(caplog, "bad")
    assert provider.get_first_open_subscription("paid", "order-1", at(0)) == good
    provider.terminate_subscription("bad")


@pytest.mark.parametrize("value", ["infinity", "-infinity", "4713-01-01 00:00:00+00 BC"])
def test_an_error(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, value: str) -> None:
    """Lists leave it out and log its id."""
    good = ExecutionError("w", "p", "good", error_time=at(0))
    provider.persist_errors([ExecutionError("w", "p", "bad"), good])
    sql("UPDATE wfc.execution_errors SET id = 4711, error_time = %s WHERE message = 'bad'", [value])
    assert provider.get_execution_errors() == [good]
    assert logged(caplog, "4711")


@pytest.mark.parametrize(("expiry", "is_open"), [("infinity", False), ("-infinity", True)])
def test_an_expiry_beyond_all_time(provider: Provider, sql: Sql, expiry: str, is_open: bool) -> None:
    """It cannot be shown, but it counts: a held one stays held, one that has run out can be taken."""
    provider.create_event_subscription(subscription(id="s", external_token="another's"))
    sql("UPDATE wfc.event_subscriptions SET external_token_expiry = %s", [expiry])
    refusing(lambda: provider.get_subscription("s"), "event_subscriptions", "s", "external_token_expiry")
    assert provider.set_subscription_token("s", "mine", "worker", at(1000)) == is_open
    assert provider.get_statistics().held_subscriptions == 1


def test_an_unknown_command(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    """It stays where it is, its id is logged, and the others are run: now and the next time."""
    for data in ("a", "b", "c"):
        provider.schedule_command(command(data))
    sql("UPDATE wfc.scheduled_commands SET command_name = 'Unknown', id = 4711 WHERE data = 'b'")
    seen: list[ScheduledCommand] = []
    assert provider.process_commands(at(1), seen.append) == 2
    assert [it.data for it in seen] == ["a", "c"]
    assert logged(caplog, "4711")
    assert sql("SELECT data, claim IS NULL FROM wfc.scheduled_commands") == [("b", True)]
    provider.schedule_command(command("d"))
    assert provider.process_commands(at(1), seen.append) == 1
    assert logged(caplog, "4711")


def test_pages_with_corrupt_rows(provider: Provider, sql: Sql) -> None:
    """Paging ends, whatever stands at the end of a page, and leaves out no good row."""
    for index in range(6):
        provider.create_new_workflow(workflow(id=str(index), create_time=at(index)))
    sql("UPDATE wfc.workflows SET create_time = 'infinity' WHERE id IN ('0', '3')")
    sql("UPDATE wfc.workflows SET create_time = '-infinity' WHERE id = '1'")
    sql("UPDATE wfc.workflows SET status = 'Nonsense' WHERE id = '4'")
    for limit in (1, 2, 3):
        found, cursor = [], None
        for _ in range(10):
            page = provider.find_workflows(limit=limit, cursor=cursor)
            found += [it.id for it in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert cursor is None
        assert found == ["5", "2"]


def test_a_store_that_holds_what_it_should_not(provider: Provider, sql: Sql) -> None:
    """The statistics count what they know, and show nothing for a time that is none."""
    provider.create_new_workflow(workflow(id="w"))
    provider.create_event(event(id="e"))
    sql("UPDATE wfc.workflows SET status = 'Nonsense'")
    sql("UPDATE wfc.events SET event_time = '-infinity'")
    found = provider.get_statistics()
    assert set(found.workflows) == set(WorkflowStatus)
    assert sum(found.workflows.values()) == 0
    assert found.unprocessed_events == 1
    assert found.oldest_unprocessed_event is None


POISON: dict[str, Any] = {
    "a pickle": "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAZ0b3VjaCB4lIWUUpQu",
    "jsonpickle": {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]},
    "json.net": {"$type": "System.Diagnostics.Process, System"},
    "yaml": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("value", POISON.values(), ids=POISON)
def test_stored_data_is_only_data(provider: Provider, value: Any) -> None:
    """Whatever it looks like, it comes back as it is."""
    stored = created(provider, workflow(pointer("a", outcome=value), data=value))
    assert stored.data == stored.execution_pointers[0].outcome == value
    assert provider.get_event(provider.create_event(event(event_data=value))).event_data == value
