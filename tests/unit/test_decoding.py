"""Rows become contract objects field by field, and a row that cannot be read names its column."""

import json
from collections.abc import Callable
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import inspect

from wfe_postgres import (
    CorruptRowError,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
    WorkflowSummary,
)
from wfe_postgres.codec import decoding, fields
from wfe_postgres.codec.fields import NO_ATTRIBUTE, POINTER_FIELDS, Fields
from wfe_postgres.orm import Base, CommandRow, ErrorRow, EventRow, PointerRow, SubscriptionRow, WorkflowRow

TIME, TIMESTAMP = "2030-01-02T03:04:05.678901", datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
WHOLE, WHOLE_TIMESTAMP = "2030-01-02T03:04:05", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

# By column, in another order than the fields': what JSON has there, and what the attribute is.
Row = dict[str, tuple[Any, Any]]

WORKFLOW: Row = {
    "revision": (2**62, 2**62),
    "data": ({"lines": [1, None]}, {"lines": [1, None]}),
    "status": ("Suspended", WorkflowStatus.SUSPENDED),
    "create_time": (TIME, TIMESTAMP),
    "complete_time": (WHOLE, WHOLE_TIMESTAMP),
    "next_execution": (5, 5),
    "reference": ("order 1", "order 1"),
    "description": ("an order", "an order"),
    "version": (3, 3),
    "definition_id": ("shop", "shop"),
    "root_workflow_id": ("root", "root"),
    "name": ("first", "first"),
    "id": ("w", "w"),
}
POINTER: Row = {
    "position": (2**20, 2**20),
    "extension_attributes": ({"k": 1}, {"k": 1}),
    "scope": (["s"], ["s"]),
    "outcome": (1.5, 1.5),
    "predecessor_id": ("p", "p"),
    "context_item": ("item", "item"),
    "children": (["c"], ["c"]),
    "retry_count": (2, 2),
    "step_name": ("step", "step"),
    "event_data": ([0], [0]),
    "event_published": (True, True),
    "event_key": ("key", "key"),
    "event_name": ("name", "name"),
    "end_time": (WHOLE, WHOLE_TIMESTAMP),
    "start_time": (TIME, TIMESTAMP),
    "persistence_data": ({"n": 1}, {"n": 1}),
    "sleep_until": ("0001-01-01T00:00:00", datetime.min.replace(tzinfo=UTC)),
    "status": ("WaitingForEvent", PointerStatus.WAITING_FOR_EVENT),
    "active": (False, False),
    "step_id": (7, 7),
    "id": ("a", "a"),
}
SUBSCRIPTION: Row = {
    "external_token_expiry": (TIME, TIMESTAMP),
    "external_worker_id": ("worker", "worker"),
    "external_token": ("token", "token"),
    "subscription_data": ({"n": 1}, {"n": 1}),
    "subscribe_as_of": (WHOLE, WHOLE_TIMESTAMP),
    "event_key": ("key", "key"),
    "event_name": ("name", "name"),
    "execution_pointer_id": ("a", "a"),
    "step_id": (7, 7),
    "workflow_id": ("w", "w"),
    "id": ("s", "s"),
}
EVENT: Row = {
    "is_processed": (True, True),
    "event_time": (TIME, TIMESTAMP),
    "event_data": (None, None),
    "event_key": ("key", "key"),
    "event_name": ("name", "name"),
    "id": ("e", "e"),
}
ERROR: Row = {
    "error_time": (TIME, TIMESTAMP),
    "message": ("it failed", "it failed"),
    "execution_pointer_id": ("a", "a"),
    "workflow_id": ("w", "w"),
    "id": (9, 9),
}
SUMMARY: Row = {column: value for column, value in WORKFLOW.items() if column not in ("data", "revision")}

Kind = tuple[Callable[[str], Any], Fields, type, Row]
KINDS: dict[str, Kind] = {
    "workflow": (decoding.read_workflow, fields.WORKFLOW_FIELDS, WorkflowInstance, WORKFLOW),
    "summary": (decoding.read_summary, fields.SUMMARY_FIELDS, WorkflowSummary, SUMMARY),
    "event": (decoding.read_event, fields.EVENT_FIELDS, Event, EVENT),
    "subscription": (decoding.read_subscription, fields.SUBSCRIPTION_FIELDS, EventSubscription, SUBSCRIPTION),
    "error": (decoding.read_error, fields.ERROR_FIELDS, ExecutionError, ERROR),
}
PARSED = {
    "workflow": ("status", "create_time"),
    "summary": ("status", "create_time"),
    "event": ("event_time",),
    "subscription": ("subscribe_as_of",),
    "error": ("error_time",),
}
BAD_POINTER_VALUES: list[tuple[str, Any]] = [
    ("status", None),
    ("status", "waiting"),
    ("status", []),
    ("sleep_until", "infinity"),
    ("start_time", 5),
    ("end_time", "10000-01-01T00:00:00"),
    ("event_published", None),
    ("retry_count", None),
    ("children", None),
    ("children", {}),
    ("scope", "s"),
    ("extension_attributes", None),
    ("extension_attributes", []),
]


def row_of(columns: Fields, row: Row, **changed: Any) -> list[Any]:
    """The values of a row as JSON has them, in the order of the fields."""
    return [changed.get(field.column.key, row[field.column.key][0]) for field in columns]


def pointer_row(json_nulls: list[bool] | None = None, **changed: Any) -> list[Any]:
    """The values of a pointer's row in a load."""
    return [*row_of(POINTER_FIELDS, POINTER, **changed), json_nulls]


def attributes_of(columns: Fields, row: Row) -> dict[str, Any]:
    """The attributes that are to be read from the row."""
    return {field.name: row[field.column.key][1] for field in columns if field.name != NO_ATTRIBUTE}


def corrupt(read: Callable[[Any], Any], json_text: str | list[str]) -> tuple[str, str, str]:
    """The table, the id and the column that the refusal names."""
    with pytest.raises(CorruptRowError) as caught:
        read(json_text)
    assert caught.value.__context__ is None
    return caught.value.table, caught.value.row_id, caught.value.column


@pytest.mark.parametrize(("read", "columns", "kind", "row"), KINDS.values(), ids=KINDS)
def test_row_is_read_into_the_attributes_of_its_columns(
    read: Callable[[str], Any], columns: Fields, kind: type, row: Row
) -> None:
    found = read(json.dumps(row_of(columns, row)))
    assert type(found) is kind
    assert vars(found) == vars(kind(**attributes_of(columns, row)))


def test_pointer_row_is_read_into_the_attributes_of_its_columns() -> None:
    pointers, positions, _ = decoding.read_pointers([json.dumps(pointer_row())] * 2)
    assert pointers == [ExecutionPointer(**attributes_of(POINTER_FIELDS, POINTER))] * 2
    assert type(pointers[0].status) is PointerStatus
    assert positions == [2**20, 2**20]


def test_equal_ids_and_step_names_are_one_object() -> None:
    """A workflow of thousands of pointers takes a fifteenth less memory."""
    rows = [pointer_row(id=id, predecessor_id=before) for id, before in (("first", None), ("b", "first"))]
    (first, second), _, _ = decoding.read_pointers([*map(json.dumps, rows)])
    assert first.predecessor_id is None
    assert second.predecessor_id is first.id
    assert second.step_name is first.step_name


def test_json_nulls_are_the_fields_whose_columns_hold_json_null() -> None:
    rows = [
        pointer_row(),
        pointer_row(id="b", json_nulls=[False, True, False, False]),
        pointer_row(id="c", json_nulls=[True] * 4),
    ]
    *_, json_nulls = decoding.read_pointers([*map(json.dumps, rows)])
    names = ("persistence_data", "event_data", "context_item", "outcome")
    assert json_nulls == {"b": {"event_data"}, "c": {*names}}


def test_pointer_read_has_exactly_the_fields_of_the_dataclass() -> None:
    pointer, *_ = decoding._pointer(pointer_row())
    assert vars(pointer).keys() == {field.name for field in fields_of(ExecutionPointer)}


def test_workflow_without_pointers_is_read_to_empty_lists() -> None:
    assert decoding.read_pointers([]) == ([], [], {})


@pytest.mark.parametrize(
    ("columns", "row_class", "unread"),
    [
        (fields.WORKFLOW_FIELDS, WorkflowRow, {"last_heartbeat_at"}),
        (fields.POINTER_FIELDS, PointerRow, {"workflow_id"}),
        (fields.EVENT_FIELDS, EventRow, set()),
        (fields.SUBSCRIPTION_FIELDS, SubscriptionRow, set()),
        (fields.ERROR_FIELDS, ErrorRow, {"nonce"}),
        (fields.COMMAND_FIELDS, CommandRow, {"id", "claim", "claimed_until", "rescheduled"}),
    ],
)
def test_fields_are_the_columns_of_the_table_but_for_the_named_ones(
    columns: Fields, row_class: type[Base], unread: set[str]
) -> None:
    listed = [field.column for field in columns]
    assert {column.class_ for column in listed} == {row_class}
    assert sorted(column.key for column in listed) == sorted({*inspect(row_class).column_attrs.keys()} - unread)


@pytest.mark.parametrize(
    ("columns", "kind", "apart"),
    [
        (fields.WORKFLOW_FIELDS, WorkflowInstance, {"execution_pointers"}),
        (fields.SUMMARY_FIELDS, WorkflowSummary, set()),
        (fields.POINTER_FIELDS, ExecutionPointer, set()),
        (fields.EVENT_FIELDS, Event, set()),
        (fields.SUBSCRIPTION_FIELDS, EventSubscription, set()),
        (fields.ERROR_FIELDS, ExecutionError, set()),
        (fields.COMMAND_FIELDS, ScheduledCommand, set()),
    ],
)
def test_fields_are_the_attributes_of_the_contract(columns: Fields, kind: Any, apart: set[str]) -> None:
    listed = [field.name for field in columns if field.name != NO_ATTRIBUTE]
    assert sorted(listed) == sorted({field.name for field in fields_of(kind)} - apart)


def test_json_fields_are_the_json_columns() -> None:
    for columns in (fields.WORKFLOW_FIELDS, POINTER_FIELDS, fields.SUBSCRIPTION_FIELDS, fields.EVENT_FIELDS):
        of_json = [it.column.key for it in columns if it.column.type.__class__.__name__ == "JSONB"]
        assert [it.column.key for it in fields.json_fields(columns)] == of_json


@pytest.mark.parametrize("value", [None, "nonsense", 5, [], {}])
@pytest.mark.parametrize(("name", "column"), [(name, column) for name, them in PARSED.items() for column in them])
def test_unreadable_column_is_named(name: str, column: str, value: Any) -> None:
    read, columns, _, row = KINDS[name]
    json_text = json.dumps(row_of(columns, row, **{column: value}))
    assert corrupt(read, json_text) == (columns[0].column.class_.__tablename__, str(row["id"][0]), column)


def test_null_in_a_required_column_is_named() -> None:
    json_text = json.dumps(row_of(fields.EVENT_FIELDS, EVENT, is_processed=None))
    assert corrupt(decoding.read_event, json_text) == ("events", "e", "is_processed")


@pytest.mark.parametrize("unreadable", ["1" * 5000, "[" * 100_000 + "]" * 100_000], ids=["digits", "depth"])
def test_column_that_python_cannot_parse_is_named(unreadable: str) -> None:
    json_text = json.dumps(row_of(fields.WORKFLOW_FIELDS, WORKFLOW, data="HERE")).replace('"HERE"', unreadable)
    assert corrupt(decoding.read_workflow, json_text) == ("workflows", "w", "data")
    rows = [pointer_row(), pointer_row(id="b", outcome="HERE")]
    found = corrupt(decoding.read_pointers, [json.dumps(row).replace('"HERE"', unreadable) for row in rows])
    assert found == ("execution_pointers", "b", "outcome")


@pytest.mark.parametrize(("column", "value"), BAD_POINTER_VALUES)
def test_unreadable_column_of_a_pointer_is_named_with_the_pointer(column: str, value: Any) -> None:
    good, bad = pointer_row(), pointer_row(id="b", **{column: value})
    assert corrupt(decoding.read_pointers, [*map(json.dumps, (good, bad, good))]) == ("execution_pointers", "b", column)


def test_first_of_two_unreadable_columns_is_named() -> None:
    json_text = json.dumps(row_of(fields.WORKFLOW_FIELDS, WORKFLOW, status="?", create_time="?"))
    assert corrupt(decoding.read_workflow, json_text) == ("workflows", "w", "status")


def test_row_that_ends_early_names_the_missing_column() -> None:
    json_text = json.dumps(row_of(fields.EVENT_FIELDS, EVENT)[:3])
    assert corrupt(decoding.read_event, json_text) == ("events", "e", "event_data")


@pytest.mark.parametrize("column", ["sleep_until", "start_time", "end_time", "outcome", "event_name"])
def test_null_in_an_optional_column_is_none(column: str) -> None:
    [pointer], _, _ = decoding.read_pointers([json.dumps(pointer_row(**{column: None}))])
    assert getattr(pointer, column) is None
