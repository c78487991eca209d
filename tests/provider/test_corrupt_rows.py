"""Corrupt rows: get calls raise CorruptRowError, and list calls skip the row and log its id."""

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
"""JSON nested deeper than some Python versions can parse."""


def readable(text: str) -> bool:
    """Whether this Python version can parse the JSON."""
    try:
        json.loads(text)
    except RecursionError:
        return False
    return True


NUMBER = "'{\"price\": 1e5000}'"
NESTED = f"'{DEEP}'"
WORKFLOWS = {
    "unknown status": ("status", "'Sleeping'"),
    "number of 5,001 digits": ("data", NUMBER),
    "time infinity": ("create_time", "'infinity'"),
    "time -infinity": ("create_time", "'-infinity'"),
    "year 4713 BC": ("create_time", "'4713-01-01 00:00:00+00 BC'"),
    "year 12000": ("create_time", "'12000-01-01 00:00:00+00'"),
    "complete_time infinity": ("complete_time", "'infinity'"),
}
POINTERS = {
    "unknown status": ("status", "'Runnable'"),
    "number of 5,001 digits": ("persistence_data", NUMBER),
    "number of 5,001 digits in outcome": ("outcome", NUMBER),
    "sleep_until infinity": ("sleep_until", "'infinity'"),
    "start_time -infinity": ("start_time", "'-infinity'"),
    "end_time 4713 BC": ("end_time", "'4713-01-01 00:00:00+00 BC'"),
    "event_published NULL": ("event_published", "NULL"),
    "retry_count NULL": ("retry_count", "NULL"),
    "children NULL": ("children", "NULL"),
    "children an object": ("children", "'{\"a\": 1}'"),
    "children JSON null": ("children", "'null'"),
    "scope NULL": ("scope", "NULL"),
    "scope a string": ("scope", "'\"outer\"'"),
    "extension_attributes NULL": ("extension_attributes", "NULL"),
    "extension_attributes a list": ("extension_attributes", "'[]'"),
}
EVENTS = {
    "number of 5,001 digits": ("event_data", NUMBER),
    "time infinity": ("event_time", "'infinity'"),
    "time -infinity": ("event_time", "'-infinity'"),
    "is_processed NULL": ("is_processed", "NULL"),
}
SUBSCRIPTIONS = {
    "number of 5,001 digits": ("subscription_data", NUMBER),
    "time -infinity": ("subscribe_as_of", "'-infinity'"),
    "year 4713 BC": ("subscribe_as_of", "'4713-01-01 00:00:00+00 BC'"),
}
if not readable(DEEP):
    WORKFLOWS["nested too deeply"] = ("data", NESTED)
    POINTERS["nested too deeply"] = ("event_data", NESTED)
    EVENTS["nested too deeply"] = ("event_data", NESTED)
    SUBSCRIPTIONS["nested too deeply"] = ("subscription_data", NESTED)


def assert_corrupt(call: Callable[[], object], table: str, row_id: str, column: str) -> None:
    """Assert that the call raises CorruptRowError with the table, id and column of the row."""
    with pytest.raises(CorruptRowError) as caught:
        call()
    error = caught.value
    assert (error.table, error.row_id, error.column) == (table, row_id, column)
    assert all(it in str(error) for it in (table, row_id, column))
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not error.retryable


def logged(caplog: pytest.LogCaptureFixture, row_id: str) -> bool:
    """Whether an error with this id was logged; clears the captured records."""
    found = [it for it in caplog.records if it.name == "wfe_postgres" and it.levelno >= logging.ERROR]
    caplog.clear()
    return any(row_id in it.getMessage() for it in found)


@pytest.mark.parametrize(("column", "value"), WORKFLOWS.values(), ids=WORKFLOWS)
def test_corrupt_workflow_is_reported_and_skipped(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """Get calls by id and by name raise CorruptRowError, list calls skip it and log its id, and polling continues."""
    good = created(provider, workflow(id="good", next_execution=2))
    provider.create_new_workflow(workflow(id="bad", next_execution=1))
    sql(f"UPDATE wfc.workflows SET {column} = {value} WHERE id = 'bad'")
    assert_corrupt(lambda: provider.get_workflow_instance("bad"), "workflows", "bad", column)
    assert_corrupt(lambda: provider.get_workflow_instance_by_name("bad"), "workflows", "bad", column)
    assert provider.get_workflow_instances(["bad", "good"]) == [good]
    assert logged(caplog, "bad")
    assert provider.get_runnable_instances(at(0)) == (["good"] if column == "status" else ["bad", "good"])
    assert [it.id for it in provider.find_workflows().items] == ["good"] or column == "data"
    assert logged(caplog, "bad") or column == "data"
    provider.get_statistics()


@pytest.mark.parametrize(("column", "value"), POINTERS.values(), ids=POINTERS)
def test_corrupt_pointer_is_reported_and_its_workflow_skipped(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """The error names the pointer; list calls skip its workflow and log both ids."""
    good = created(provider, workflow(id="good"))
    provider.create_new_workflow(workflow(pointer("first"), pointer("broken"), pointer("last"), id="bad"))
    sql(f"UPDATE wfc.execution_pointers SET {column} = {value} WHERE id = 'broken'")
    assert_corrupt(lambda: provider.get_workflow_instance("bad"), "execution_pointers", "broken", column)
    assert provider.get_workflow_instances(["good", "bad"]) == [good]
    assert any("bad" in it.getMessage() and "broken" in it.getMessage() for it in caplog.records)
    assert len(provider.get_runnable_instances(at(0))) == 2


@pytest.mark.parametrize(("column", "value"), EVENTS.values(), ids=EVENTS)
def test_corrupt_event_is_reported(provider: Provider, sql: Sql, column: str, value: str) -> None:
    """The error names the event; calls that return only ids and the statistics are not affected."""
    provider.create_event(event(id="good"))
    provider.create_event(event(id="bad"))
    sql(f"UPDATE wfc.events SET {column} = {value} WHERE id = 'bad'")
    assert_corrupt(lambda: provider.get_event("bad"), "events", "bad", column)
    assert "good" in provider.get_runnable_events(at(0))
    assert "good" in provider.get_events("paid", "order-1", at(0))
    assert provider.get_statistics().unprocessed_events == (1 if column == "is_processed" else 2)
    provider.mark_event_processed("bad")
    assert provider.get_runnable_events(at(0)) == ["good"]


@pytest.mark.parametrize(("column", "value"), SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
def test_corrupt_subscription_is_reported_and_skipped(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """List calls skip it and log its id, and `get_first_open_subscription` returns the first valid one."""
    provider.create_event_subscription(subscription(id="bad", subscribe_as_of=at(-1)))
    good = subscription(id="good")
    provider.create_event_subscription(good)
    sql(f"UPDATE wfc.event_subscriptions SET {column} = {value} WHERE id = 'bad'")
    assert_corrupt(lambda: provider.get_subscription("bad"), "event_subscriptions", "bad", column)
    assert provider.get_subscriptions("paid", "order-1", at(0)) == [good]
    assert logged(caplog, "bad")
    assert provider.get_workflow_subscriptions("workflow-1") == [good]
    assert logged(caplog, "bad")
    assert provider.get_first_open_subscription("paid", "order-1", at(0)) == good
    provider.terminate_subscription("bad")


@pytest.mark.parametrize("value", ["infinity", "-infinity", "4713-01-01 00:00:00+00 BC"])
def test_corrupt_execution_error_is_skipped(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """`get_execution_errors` skips it and logs its id."""
    good = ExecutionError("w", "p", "good", error_time=at(0))
    provider.persist_errors([ExecutionError("w", "p", "bad"), good])
    sql("UPDATE wfc.execution_errors SET id = 4711, error_time = %s WHERE message = 'bad'", [value])
    assert provider.get_execution_errors() == [good]
    assert logged(caplog, "4711")


@pytest.mark.parametrize(("expiry", "is_open"), [("infinity", False), ("-infinity", True)])
def test_infinite_token_expiry_is_compared_correctly(provider: Provider, sql: Sql, expiry: str, is_open: bool) -> None:
    """It cannot be returned, but `infinity` keeps the token held and `-infinity` means that it has expired."""
    provider.create_event_subscription(subscription(id="s", external_token="other"))
    sql("UPDATE wfc.event_subscriptions SET external_token_expiry = %s", [expiry])
    assert_corrupt(lambda: provider.get_subscription("s"), "event_subscriptions", "s", "external_token_expiry")
    assert provider.set_subscription_token("s", "mine", "worker", at(1000)) == is_open
    assert provider.get_statistics().held_subscriptions == 1


def test_command_with_an_unknown_name_is_skipped(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept and its id is logged; the other commands are processed, in this call and in the next."""
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


def test_paging_skips_corrupt_rows(provider: Provider, sql: Sql) -> None:
    """Paging terminates and returns every valid row, wherever the corrupt rows are on a page."""
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


def test_statistics_ignore_unknown_status_and_infinite_time(provider: Provider, sql: Sql) -> None:
    """Workflows with an unknown status are not counted, and an infinite oldest time is returned as None."""
    provider.create_new_workflow(workflow(id="w"))
    provider.create_event(event(id="e"))
    sql("UPDATE wfc.workflows SET status = 'Nonsense'")
    sql("UPDATE wfc.events SET event_time = '-infinity'")
    found = provider.get_statistics()
    assert set(found.workflows) == set(WorkflowStatus)
    assert sum(found.workflows.values()) == 0
    assert found.unprocessed_events == 1
    assert found.oldest_unprocessed_event is None


UNSAFE: dict[str, Any] = {
    "pickle": "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAZ0b3VjaCB4lIWUUpQu",
    "jsonpickle": {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]},
    "json.net": {"$type": "System.Diagnostics.Process, System"},
    "yaml": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("value", UNSAFE.values(), ids=UNSAFE)
def test_stored_data_is_never_executed(provider: Provider, value: Any) -> None:
    """Data in the formats of unsafe deserializers is returned unchanged."""
    stored = created(provider, workflow(pointer("a", outcome=value), data=value))
    assert stored.data == stored.execution_pointers[0].outcome == value
    assert provider.get_event(provider.create_event(event(event_data=value))).event_data == value
