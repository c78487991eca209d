"""From the JSON text of a row to a contract object; for a row that cannot be read, which column is the cause.

A row comes as one JSON array with the columns of its fields in order, times in UTC without offset, so that what is
read depends on no loader, DateStyle or TimeZone of the connection.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import compress, takewhile
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
    Field,
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

_OPTIONAL_JSON = tuple(field.name for field in optional_json_fields(POINTER_FIELDS))
_UNREADABLE = (ValueError, TypeError, LookupError, RecursionError)


def _reader(of_row: Callable[[list[Any]], _T], fields: Fields) -> Callable[[str], _T]:
    """A function from a row's JSON text to the object. `CorruptRowError`: a column cannot be read."""

    def read(json_row: str) -> _T:
        try:
            return of_row(decode(json_row))
        except _UNREADABLE:
            corrupt = _find_corrupt(json_row, fields)
        raise corrupt

    return read


def _by_fields(make: Callable[..., _T], fields: Fields) -> Callable[[str], _T]:
    """As `_reader`, with a keyword of `make` for each field."""
    names = [field.name for field in fields]
    readers = [(field.name, field.read) for field in fields if field.read is not as_stored]

    def of_row(row: list[Any]) -> _T:
        values = dict(zip(names, row, strict=True))
        for name, read_value in readers:
            values[name] = read_value(values[name])
        values.pop(NO_ATTRIBUTE, None)
        return make(**values)

    return _reader(of_row, fields)


read_summary: Callable[[str], WorkflowSummary] = _by_fields(WorkflowSummary, SUMMARY_FIELDS)
read_event: Callable[[str], Event] = _by_fields(Event, EVENT_FIELDS)
read_subscription: Callable[[str], EventSubscription] = _by_fields(EventSubscription, SUBSCRIPTION_FIELDS)
read_error: Callable[[str], ExecutionError] = _by_fields(ExecutionError, ERROR_FIELDS)


# Written out: a load makes thousands of pointers, and with a single pointer takes 3 % less time when the workflow is
# written out, too. Assigning the attributes takes a third of the time that `__init__` takes with twenty keywords.


def _workflow(row: list[Any]) -> WorkflowInstance:
    """For a row of `WORKFLOW_FIELDS`."""
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


read_workflow: Callable[[str], WorkflowInstance] = _reader(_workflow, WORKFLOW_FIELDS)
"""The instance, still without its pointers."""


def _pointer(row: list[Any]) -> tuple[ExecutionPointer, int, list[bool] | None]:
    """For a row of `POINTER_FIELDS` and JSON nulls: the pointer, its position, which optional JSON fields are null."""
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
        position,
        json_nulls,
    ) = row
    pointer.status = POINTER_STATUS[status]
    pointer.sleep_until = to_optional_datetime(sleep_until)
    pointer.start_time = to_optional_datetime(start_time)
    pointer.end_time = to_optional_datetime(end_time)
    if pointer.event_published is None or pointer.retry_count is None:
        raise ValueError
    if not (type(pointer.children) is type(pointer.scope) is list and type(pointer.extension_attributes) is dict):
        raise TypeError
    return pointer, position, json_nulls


_read_pointer = _reader(_pointer, POINTER_FIELDS)


def read_pointers(json_rows: list[str]) -> tuple[list[ExecutionPointer], list[int], dict[str, JsonNulls]]:
    """The pointers of one workflow, their positions, and by pointer id which optional JSON fields hold JSON null.

    A load gives `None` for these, as for SQL NULL. Takes the rows out of the list, which can be large.
    """
    pointers: list[ExecutionPointer] = []
    positions: list[int] = []
    nulls: dict[str, JsonNulls] = {}
    json_rows.reverse()
    while json_rows:
        pointer, position, json_nulls = _read_pointer(json_rows.pop())
        pointers.append(pointer)
        positions.append(position)
        if json_nulls:
            nulls[pointer.id] = frozenset(compress(_OPTIONAL_JSON, json_nulls))
    _share_texts(pointers)
    return pointers, positions, nulls


def _share_texts(pointers: list[ExecutionPointer]) -> None:
    """Equal ids and names become one object: the texts of a predecessor and a step take a fifteenth of the memory."""
    share = {pointer.id: pointer.id for pointer in pointers}.setdefault
    for pointer in pointers:
        pointer.step_name = pointer.step_name and share(pointer.step_name, pointer.step_name)
        pointer.predecessor_id = pointer.predecessor_id and share(pointer.predecessor_id, pointer.predecessor_id)


def _find_corrupt(json_row: str, fields: Fields) -> CorruptRowError:
    row = _readable_elements(json_row)
    readable = takewhile(_is_readable, zip(fields, row, strict=False))
    column = fields[sum(1 for _ in readable)].column
    return CorruptRowError(column.class_.__tablename__, str(row[0]), column.key)


def _is_readable(value: tuple[Field, Any]) -> bool:
    with suppress(*_UNREADABLE):
        value[0].read(value[1])
        return True
    return False


def _readable_elements(json_row: str) -> list[Any]:
    """The elements of the JSON array, up to one that cannot be read."""
    elements: list[Any] = []
    rest = json_row[1:]
    with suppress(ValueError, RecursionError):
        while True:
            element, end = json.JSONDecoder().raw_decode(rest)
            elements.append(element)
            rest = rest[end:].lstrip(", ")
    return elements
