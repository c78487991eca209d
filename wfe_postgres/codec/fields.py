"""Contract objects to parameters, and rows back to contract objects: pure functions, one field a line.

Out: parameters are text, integers, booleans or lists of text, whatever adapters a connection has; times go as
ISO 8601 in UTC, and what is stored several at a time goes as one JSON array of records. In: a row comes as one
JSON array with the columns of its `..._COLUMNS` in that order, times in UTC without offset, so that what is read
depends on no loader, DateStyle or TimeZone of the connection.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.orm import InstrumentedAttribute

from wfe_postgres.codec.json_values import encode, encode_members
from wfe_postgres.codec.validation import big_integer, boolean, integer, key, keys, member, moment, optional, text
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import (
    CommandName,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.contract.queries import WorkflowSummary
from wfe_postgres.orm import ErrorRow, EventRow, PointerRow, SubscriptionRow, WorkflowRow

Record = dict[str, Any]
Document = list[Any]
Columns = tuple[InstrumentedAttribute[Any], ...]
_T = TypeVar("_T")

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# Workflows ------------------------------------------------------------------------------------------------

WORKFLOW_COLUMNS = (
    WorkflowRow.id,
    WorkflowRow.name,
    WorkflowRow.root_workflow_id,
    WorkflowRow.definition_id,
    WorkflowRow.version,
    WorkflowRow.description,
    WorkflowRow.reference,
    WorkflowRow.status,
    WorkflowRow.data,
    WorkflowRow.next_execution,
    WorkflowRow.create_time,
    WorkflowRow.complete_time,
    WorkflowRow.revision,
)


def workflow_to_record(instance: WorkflowInstance, id: str, name: str) -> Record:
    """The instance, under this id and name: all but its pointers and `data`, which are sent only if they changed."""
    return {
        "id": key(id, "id"),
        "name": key(name, "name"),
        "root_workflow_id": optional(key, instance.root_workflow_id, "root_workflow_id"),
        "definition_id": key(instance.workflow_definition_id, "workflow_definition_id"),
        "version": integer(instance.version, "version"),
        "description": optional(text, instance.description, "description"),
        "reference": optional(text, instance.reference, "reference"),
        "status": member(WorkflowStatus, instance.status, "status"),
        "next_execution": optional(big_integer, instance.next_execution, "next_execution"),
        "create_time": moment(instance.create_time, "create_time"),
        "complete_time": optional(moment, instance.complete_time, "complete_time"),
    }


def workflow_from_document(document: Document) -> WorkflowInstance:
    """The instance without its pointers."""
    return WorkflowInstance(
        id=document[0],
        name=document[1],
        root_workflow_id=document[2],
        workflow_definition_id=document[3],
        version=document[4],
        description=document[5],
        reference=document[6],
        status=_WORKFLOW_STATUS[document[7]],
        data=document[8],
        next_execution=document[9],
        create_time=_moment(document[10]),
        complete_time=_moment_or_none(document[11]),
        revision=document[12],
    )


SUMMARY_COLUMNS = (
    WorkflowRow.id,
    WorkflowRow.name,
    WorkflowRow.definition_id,
    WorkflowRow.version,
    WorkflowRow.status,
    WorkflowRow.description,
    WorkflowRow.reference,
    WorkflowRow.root_workflow_id,
    WorkflowRow.next_execution,
    WorkflowRow.create_time,
    WorkflowRow.complete_time,
)


def summary_from_document(document: Document) -> WorkflowSummary:
    """A workflow without its data and its pointers."""
    return WorkflowSummary(
        id=document[0],
        name=document[1],
        workflow_definition_id=document[2],
        version=document[3],
        status=_WORKFLOW_STATUS[document[4]],
        description=document[5],
        reference=document[6],
        root_workflow_id=document[7],
        next_execution=document[8],
        create_time=_moment(document[9]),
        complete_time=_moment_or_none(document[10]),
    )


# Pointers -------------------------------------------------------------------------------------------------

POINTER_COLUMNS = (
    PointerRow.id,
    PointerRow.step_id,
    PointerRow.active,
    PointerRow.status,
    PointerRow.sleep_until,
    PointerRow.persistence_data,
    PointerRow.start_time,
    PointerRow.end_time,
    PointerRow.event_name,
    PointerRow.event_key,
    PointerRow.event_published,
    PointerRow.event_data,
    PointerRow.step_name,
    PointerRow.retry_count,
    PointerRow.children,
    PointerRow.context_item,
    PointerRow.predecessor_id,
    PointerRow.outcome,
    PointerRow.scope,
    PointerRow.extension_attributes,
    PointerRow.position,
)


def pointer_to_record(pointer: ExecutionPointer, workflow_id: str, path: str) -> Record:
    """All but the JSON fields, which `pointer_payloads` gives, and the position."""
    return {
        "id": keys((workflow_id, "id"), (pointer.id, f"{path}.id"))[1],
        "step_id": integer(pointer.step_id, f"{path}.step_id"),
        "active": boolean(pointer.active, f"{path}.active"),
        "status": member(PointerStatus, pointer.status, f"{path}.status"),
        "sleep_until": optional(moment, pointer.sleep_until, f"{path}.sleep_until"),
        "start_time": optional(moment, pointer.start_time, f"{path}.start_time"),
        "end_time": optional(moment, pointer.end_time, f"{path}.end_time"),
        "event_name": optional(text, pointer.event_name, f"{path}.event_name"),
        "event_key": optional(text, pointer.event_key, f"{path}.event_key"),
        "event_published": boolean(pointer.event_published, f"{path}.event_published"),
        "step_name": optional(text, pointer.step_name, f"{path}.step_name"),
        "retry_count": integer(pointer.retry_count, f"{path}.retry_count"),
        "predecessor_id": optional(text, pointer.predecessor_id, f"{path}.predecessor_id"),
    }


def pointer_payloads(pointer: ExecutionPointer) -> Record:
    """The JSON fields as they are; `None` in them is SQL NULL."""
    return {
        "persistence_data": pointer.persistence_data,
        "event_data": pointer.event_data,
        "children": pointer.children,
        "context_item": pointer.context_item,
        "outcome": pointer.outcome,
        "scope": pointer.scope,
        "extension_attributes": pointer.extension_attributes,
    }


def pointer_from_document(document: Document) -> ExecutionPointer:
    """The pointer; its position is the document's last column."""
    return ExecutionPointer(
        id=document[0],
        step_id=document[1],
        active=document[2],
        status=_POINTER_STATUS[document[3]],
        sleep_until=_moment_or_none(document[4]),
        persistence_data=document[5],
        start_time=_moment_or_none(document[6]),
        end_time=_moment_or_none(document[7]),
        event_name=document[8],
        event_key=document[9],
        event_published=_given(document[10]),
        event_data=document[11],
        step_name=document[12],
        retry_count=_given(document[13]),
        children=_kind(list, document[14]),
        context_item=document[15],
        predecessor_id=document[16],
        outcome=document[17],
        scope=_kind(list, document[18]),
        extension_attributes=_kind(dict, document[19]),
    )


def encode_pointer(pointer: ExecutionPointer, position: int, workflow_id: str, path: str, limit: int) -> str:
    """The pointer as one JSON record of its columns."""
    record = pointer_to_record(pointer, workflow_id, path)
    record["position"] = position
    _check_shape(pointer, path)
    return _encode_record(record, pointer_payloads(pointer), path, limit)


def _check_shape(pointer: ExecutionPointer, path: str) -> None:
    for name, ids in (("children", pointer.children), ("scope", pointer.scope)):
        if not isinstance(ids, list | tuple):
            raise SerializationError(f"{path}.{name}", f"a list of ids is needed, not {type(ids).__name__}")
        for index, id in enumerate(ids):
            text(id, f"{path}.{name}[{index}]")
    if not isinstance(pointer.extension_attributes, dict):
        raise SerializationError(f"{path}.extension_attributes", "a dict is needed")


# Subscriptions --------------------------------------------------------------------------------------------

SUBSCRIPTION_COLUMNS = (
    SubscriptionRow.id,
    SubscriptionRow.workflow_id,
    SubscriptionRow.step_id,
    SubscriptionRow.execution_pointer_id,
    SubscriptionRow.event_name,
    SubscriptionRow.event_key,
    SubscriptionRow.subscribe_as_of,
    SubscriptionRow.subscription_data,
    SubscriptionRow.external_token,
    SubscriptionRow.external_worker_id,
    SubscriptionRow.external_token_expiry,
)


def subscription_to_record(subscription: EventSubscription, id: str, prefix: str = "") -> Record:
    """All but `subscription_data`; `prefix` begins the paths of what is refused."""
    event_name, event_key = keys(
        (subscription.event_name, f"{prefix}event_name"), (subscription.event_key, f"{prefix}event_key")
    )
    return {
        "id": key(id, f"{prefix}id"),
        "workflow_id": key(subscription.workflow_id, f"{prefix}workflow_id"),
        "step_id": integer(subscription.step_id, f"{prefix}step_id"),
        "execution_pointer_id": text(subscription.execution_pointer_id, f"{prefix}execution_pointer_id"),
        "event_name": event_name,
        "event_key": event_key,
        "subscribe_as_of": moment(subscription.subscribe_as_of, f"{prefix}subscribe_as_of"),
        "external_token": optional(text, subscription.external_token, f"{prefix}external_token"),
        "external_worker_id": optional(text, subscription.external_worker_id, f"{prefix}external_worker_id"),
        "external_token_expiry": optional(moment, subscription.external_token_expiry, f"{prefix}external_token_expiry"),
    }


def subscription_from_document(document: Document) -> EventSubscription:
    """The subscription."""
    return EventSubscription(
        id=document[0],
        workflow_id=document[1],
        step_id=document[2],
        execution_pointer_id=document[3],
        event_name=document[4],
        event_key=document[5],
        subscribe_as_of=_moment(document[6]),
        subscription_data=document[7],
        external_token=document[8],
        external_worker_id=document[9],
        external_token_expiry=_moment_or_none(document[10]),
    )


def encode_subscription(subscription: EventSubscription, id: str, prefix: str, limit: int) -> str:
    """The subscription, under `id`, as one JSON record of its columns."""
    record = subscription_to_record(subscription, id, prefix)
    return _encode_record(record, {"subscription_data": subscription.subscription_data}, prefix, limit)


# Events ---------------------------------------------------------------------------------------------------

EVENT_COLUMNS = (
    EventRow.id,
    EventRow.event_name,
    EventRow.event_key,
    EventRow.event_data,
    EventRow.event_time,
    EventRow.is_processed,
)


def event_to_record(event: Event, id: str, limit: int) -> Record:
    """The event, under `id`."""
    event_name, event_key = keys((event.event_name, "event_name"), (event.event_key, "event_key"))
    return {
        "id": key(id, "id"),
        "event_name": event_name,
        "event_key": event_key,
        "event_data": encode(event.event_data, "event_data", limit),
        "event_time": moment(event.event_time, "event_time"),
        "is_processed": boolean(event.is_processed, "is_processed"),
    }


def event_from_document(document: Document) -> Event:
    """The event."""
    return Event(
        id=document[0],
        event_name=document[1],
        event_key=document[2],
        event_data=document[3],
        event_time=_moment(document[4]),
        is_processed=_given(document[5]),
    )


# Errors and commands --------------------------------------------------------------------------------------

ERROR_COLUMNS = (
    ErrorRow.id,
    ErrorRow.workflow_id,
    ErrorRow.execution_pointer_id,
    ErrorRow.message,
    ErrorRow.error_time,
)
ERROR_NAMES = ["workflow_id", "execution_pointer_id", "message", "error_time", "nonce"]


def error_to_record(error: ExecutionError, nonce: int, path: str) -> Record:
    """What went wrong, as the columns of one row."""
    return {
        "workflow_id": key(error.workflow_id, f"{path}.workflow_id"),
        "execution_pointer_id": text(error.execution_pointer_id, f"{path}.execution_pointer_id"),
        "message": text(error.message, f"{path}.message"),
        "error_time": moment(error.error_time, f"{path}.error_time"),
        "nonce": nonce,
    }


def error_from_document(document: Document) -> ExecutionError:
    """What went wrong."""
    return ExecutionError(
        workflow_id=document[1],
        execution_pointer_id=document[2],
        message=document[3],
        error_time=_moment(document[4]),
    )


def command_to_record(command: ScheduledCommand) -> Record:
    """The command, as the columns of one row."""
    name = member(CommandName, command.command_name, "command_name")
    return {
        "command_name": name,
        "data": keys((name, "command_name"), (command.data, "data"))[1],
        "execute_time": big_integer(command.execute_time, "execute_time"),
    }


def command_from_row(command_name: str, data: str, execute_time: int) -> ScheduledCommand:
    """The command. KeyError: the name is none of WFE's."""
    return ScheduledCommand(
        command_name=_COMMAND_NAME[command_name],
        data=data,
        execute_time=execute_time,
    )


# How it is done -------------------------------------------------------------------------------------------

_WORKFLOW_STATUS = {status.value: status for status in WorkflowStatus}
_POINTER_STATUS = {status.value: status for status in PointerStatus}
_COMMAND_NAME = {name.value: name for name in CommandName}


def encode_records(records: Iterable[str]) -> str:
    """Records that are JSON text already, as one JSON array."""
    return f"[{','.join(records)}]"


def encode_plain_records(records: list[Record]) -> str:
    """Records without users' JSON in them, as one JSON array."""
    return _dump(records)


def _encode_record(record: Record, payloads: Record, path: str, limit: int) -> str:
    start = f"{path}." if path and not path.endswith(".") else path
    given = {name: value for name, value in payloads.items() if value is not None}
    members = encode_members(given, start, limit)
    return f"{_dump(record)[:-1]},{members}}}" if members else _dump(record)


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("NULL in a column that should hold a value")
    return value


def _kind(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"JSON that is no {kind.__name__}")
    return value


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value + "+00:00")


def _moment_or_none(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value + "+00:00")
