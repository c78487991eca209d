"""From the JSON text of a row to a contract object; for a row that cannot be read, which column is the cause.

A row comes as one JSON array with the columns of its fields in order, times in UTC without offset, so that what is
read depends on no loader, DateStyle or TimeZone of the connection.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import compress
from typing import Any, TypeVar

from wfe_postgres.codec.change_tracking import JsonNulls
from wfe_postgres.codec.fields import (
    ERROR_FIELDS,
    EVENT_FIELDS,
    NO_ATTRIBUTE,
    POINTER_FIELDS,
    POINTER_STATUS,
    SUBSCRIPTION_FIELDS,
    SUMMARY_FIELDS,
    WORKFLOW_FIELDS,
    WORKFLOW_STATUS,
    Fields,
    as_stored,
    optional_json_fields,
    to_datetime,
    to_optional_datetime,
)
from wfe_postgres.codec.json_values import decode
from wfe_postgres.contract.errors import CorruptRowError
from wfe_postgres.contract.models import Event, EventSubscription, ExecutionError, ExecutionPointer, WorkflowInstance
from wfe_postgres.contract.queries import WorkflowSummary

_T = TypeVar("_T")

_SEPARATOR = re.compile(r"[\s,]*")
_OPTIONAL_JSON = tuple(field.name for field in optional_json_fields(POINTER_FIELDS))
_UNREADABLE = (ValueError, TypeError, LookupError, RecursionError)


def _reader(make: Callable[..., _T], fields: Fields) -> Callable[[str], _T]:
    """A function from a row's JSON text to the object. `CorruptRowError`: a column cannot be read."""
    names = [field.name for field in fields]
    readers = [(field.name, field.read) for field in fields if field.read is not as_stored]

    def read(json_row: str) -> _T:
        try:
            values = dict(zip(names, decode(json_row), strict=True))
            for name, read_value in readers:
                values[name] = read_value(values[name])
            values.pop(NO_ATTRIBUTE, None)
            return make(**values)
        except _UNREADABLE:
            corrupt = _find_corrupt(json_row, fields)
        raise corrupt

    return read


read_summary: Callable[[str], WorkflowSummary] = _reader(WorkflowSummary, SUMMARY_FIELDS)
read_event: Callable[[str], Event] = _reader(Event, EVENT_FIELDS)
read_subscription: Callable[[str], EventSubscription] = _reader(EventSubscription, SUBSCRIPTION_FIELDS)
read_error: Callable[[str], ExecutionError] = _reader(ExecutionError, ERROR_FIELDS)


def read_workflow(json_row: str) -> WorkflowInstance:
    """The instance, still without its pointers. `CorruptRowError`: a column cannot be read."""
    try:
        return _workflow(decode(json_row))
    except _UNREADABLE:
        corrupt = _find_corrupt(json_row, WORKFLOW_FIELDS)
    raise corrupt


def read_pointers(json_rows: list[str]) -> tuple[list[ExecutionPointer], list[int], dict[str, JsonNulls]]:
    """The pointers of one workflow, their positions, and by pointer id which optional JSON fields hold JSON null.

    A load gives `None` for these, as for SQL NULL. Takes the rows out of the list, which can be large.
    """
    pointers: list[ExecutionPointer] = []
    positions: list[int] = []
    json_nulls: dict[str, JsonNulls] = {}
    json_rows.reverse()
    json_row = ""
    try:
        while json_rows:
            json_row = json_rows.pop()
            row = decode(json_row)
            pointers.append(_pointer(row))
            positions.append(row[-2])
            if row[-1]:
                json_nulls[row[0]] = frozenset(compress(_OPTIONAL_JSON, row[-1]))
    except _UNREADABLE:
        corrupt = _find_corrupt(json_row, POINTER_FIELDS)
    else:
        _share_texts(pointers)
        return pointers, positions, json_nulls
    raise corrupt


# Written out, because a load makes thousands of pointers, and for one pointer takes 3 % less time. Assigning the
# attributes takes a third of the time that `__init__` takes with twenty keywords.


def _workflow(row: list[Any]) -> WorkflowInstance:
    """As `_reader`, for a row of `WORKFLOW_FIELDS`."""
    instance = object.__new__(WorkflowInstance)
    (
        instance.id,
        instance.name,
        instance.root_workflow_id,
        instance.workflow_definition_id,
        instance.version,
        instance.description,
        instance.reference,
        status,
        instance.data,
        instance.next_execution,
        create_time,
        complete_time,
        instance.revision,
    ) = row
    instance.status = WORKFLOW_STATUS[status]
    instance.create_time = to_datetime(create_time)
    instance.complete_time = to_optional_datetime(complete_time)
    instance.execution_pointers = []
    return instance


def _pointer(row: list[Any]) -> ExecutionPointer:
    """As `_reader`, for a row of `POINTER_FIELDS` and JSON nulls. `_find_corrupt` says what an error is."""
    pointer = object.__new__(ExecutionPointer)
    (
        pointer.id,
        pointer.step_id,
        pointer.active,
        status,
        sleep_until,
        pointer.persistence_data,
        start_time,
        end_time,
        pointer.event_name,
        pointer.event_key,
        pointer.event_published,
        pointer.event_data,
        pointer.step_name,
        pointer.retry_count,
        pointer.children,
        pointer.context_item,
        pointer.predecessor_id,
        pointer.outcome,
        pointer.scope,
        pointer.extension_attributes,
        _position,
        _json_nulls,
    ) = row
    pointer.status = POINTER_STATUS[status]
    pointer.sleep_until = to_optional_datetime(sleep_until)
    pointer.start_time = to_optional_datetime(start_time)
    pointer.end_time = to_optional_datetime(end_time)
    if pointer.event_published is None or pointer.retry_count is None:
        raise ValueError
    if not (type(pointer.children) is type(pointer.scope) is list and type(pointer.extension_attributes) is dict):
        raise TypeError
    return pointer


def _share_texts(pointers: list[ExecutionPointer]) -> None:
    """Equal ids and names become one object: the texts of a predecessor and a step take a fifteenth of the memory."""
    share = {pointer.id: pointer.id for pointer in pointers}.setdefault
    for pointer in pointers:
        pointer.step_name = pointer.step_name and share(pointer.step_name, pointer.step_name)
        pointer.predecessor_id = pointer.predecessor_id and share(pointer.predecessor_id, pointer.predecessor_id)


def _find_corrupt(json_row: str, fields: Fields) -> CorruptRowError:
    try:
        row = decode(json_row)
    except _UNREADABLE:
        row = _readable_elements(json_row)
    for field, value in zip(fields, row, strict=False):
        with suppress(*_UNREADABLE):
            field.read(value)
            continue
        return _corrupt(fields, row[0], field.column.key)
    return _corrupt(fields, row[0], fields[len(row)].column.key)


def _corrupt(fields: Fields, id: Any, column: str) -> CorruptRowError:
    return CorruptRowError(fields[0].column.class_.__tablename__, str(id), column)


def _readable_elements(json_row: str) -> list[Any]:
    """The elements of the JSON array, up to one that cannot be read."""
    elements: list[Any] = []
    decoder, offset = json.JSONDecoder(), 0
    while True:
        offset = _end(_SEPARATOR.match(json_row, offset + (not elements)))
        try:
            element, offset = decoder.raw_decode(json_row, offset)
        except (ValueError, RecursionError):
            return elements
        elements.append(element)


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "a pattern of stars alone matches everywhere"
    return match.end()
