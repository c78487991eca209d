"""From contract objects to parameters: text, integers, booleans, lists of text, and JSON arrays of records.

Nothing depends on a connection's adapters: times go as ISO 8601 in UTC, and what is stored several at a time goes as
one JSON array, an object per row.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC
from typing import Any

import msgspec

from wfe_postgres.codec.change_tracking import Changes
from wfe_postgres.codec.fields import (
    COMMAND_FIELDS,
    ERROR_FIELDS,
    EVENT_FIELDS,
    POINTER_FIELDS,
    STATE_FIELDS,
    SUBSCRIPTION_FIELDS,
    WORKFLOW_FIELDS,
    Fields,
    json_fields,
)
from wfe_postgres.codec.json_values import check_call_size, encode, encode_members, encode_plain, encode_record
from wfe_postgres.codec.validation import INT4, MAX_KEY_BYTES, key, keys, text
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import (
    JSON_NULL,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    ScheduledCommand,
    WorkflowInstance,
)

Record = dict[str, Any]
"""Column names and what is stored there."""

_Validated = list[tuple[str, str, Callable[[Any, str], Any]]]
"""Of each column: its name, its attribute's, and what validates that."""


def _validated(fields: Fields, *without: str) -> _Validated:
    return [(it.column.key, it.name, it.validate) for it in fields if it.validate and it.name not in without]


_WORKFLOW = _validated(WORKFLOW_FIELDS, "id", "name")
_STATE = _validated(STATE_FIELDS)
_POINTER = _validated(POINTER_FIELDS, "id")
_POINTER_JSON = [field.name for field in json_fields(POINTER_FIELDS)]
_decode_pointer = msgspec.json.Decoder(ExecutionPointer).decode
_SUBSCRIPTION = _validated(SUBSCRIPTION_FIELDS, "id", "event_name", "event_key")
_EVENT = _validated(EVENT_FIELDS, "id", "event_name", "event_key")
_ERROR = _validated(ERROR_FIELDS)
_COMMAND = _validated(COMMAND_FIELDS, "data")


def creation_parameters(instance: WorkflowInstance, name: str, changes: Changes, revision: int, limit: int) -> Record:
    """What a creation sends, under the id of `changes.after`. `limit`: of one JSON value, in bytes.

    SerializationError: a value cannot be stored, or all are too much for one call.
    """
    params = workflow_record(instance, changes.after.workflow_id, name)
    params["data"] = encode(instance.data, "data", limit)
    params["pointers"] = _encode_pointers(instance, changes, limit)
    params["revision"] = revision
    check_call_size("execution_pointers", params["description"], params["data"], params["pointers"])
    return params


def save_parameters(
    instance: WorkflowInstance,
    subscriptions: Sequence[EventSubscription],
    subscription_ids: Sequence[str],
    changes: Changes,
    revision: int,
    limit: int,
) -> Record:
    """What a save sends: of the pointers and the data, what has changed. Raises as `creation_parameters` does."""
    params = workflow_record(instance, instance.id, instance.name) if changes.row else _record(instance, _STATE, "")
    params["workflow_id"] = instance.id
    params["data"] = encode(instance.data, "data", limit) if changes.data else None
    params["pointers"] = _encode_pointers(instance, changes, limit)
    params["removed"] = changes.removed
    params["kept"] = list(changes.after.pointers) if changes.is_complete else []
    params["subscription_ids"] = subscription_ids
    encoded = [
        encode_subscription(it, subscription_ids[index], f"subscriptions[{index}].", limit)
        for index, it in enumerate(subscriptions)
    ]
    params["subscriptions"] = f"[{','.join(encoded)}]"
    params["expected_revision"] = None if instance.revision is None else int(instance.revision)
    params["new_revision"] = revision
    sent = (params.get("description"), params["data"], params["pointers"], params["subscriptions"])
    check_call_size("execution_pointers", *sent)
    return params


def workflow_record(instance: WorkflowInstance, id: str, name: str) -> Record:
    """The instance, under this id and name: all but its pointers and `data`, which are sent only if they changed."""
    return _record(instance, _WORKFLOW, "") | {"id": key(id, "id"), "name": key(name, "name")}


def encode_pointer(
    pointer: ExecutionPointer, position: int, workflow_id: str, path: str, limit: int, json_nulls: Collection[str] = ()
) -> str:
    """The pointer as one JSON record. `limit`: of one JSON value, in bytes; `path`: of the pointer.

    `json_nulls`: the fields that are to hold JSON null.
    """
    encoded = None if json_nulls else encode_plain(pointer, _decode_pointer)
    if encoded and 4 * len(encoded) <= limit and _is_in_range(pointer, workflow_id):
        return f'{{"position":{position},{encoded[1:]}'
    record = _record(pointer, _POINTER, f"{path}.")
    record["id"] = keys((workflow_id, "id"), (pointer.id, f"{path}.id"))[1]
    record["position"] = position
    _validate_shape(pointer, path)
    values = {name: getattr(pointer, name) for name in _POINTER_JSON}
    return _encode_record(record, values, json_nulls, f"{path}.", limit)


def subscription_record(subscription: EventSubscription, id: str, prefix: str = "") -> Record:
    """The subscription, under `id`: all but `subscription_data`."""
    return _record(subscription, _SUBSCRIPTION, prefix) | _name_and_key(subscription, id, prefix)


def encode_subscription(subscription: EventSubscription, id: str, prefix: str, limit: int) -> str:
    """The subscription, under `id`, as one JSON record."""
    record = subscription_record(subscription, id, prefix)
    data = subscription.subscription_data
    json_nulls = ["subscription_data"] * (data is JSON_NULL)
    return _encode_record(record, {"subscription_data": data}, json_nulls, prefix, limit)


def event_record(event: Event, id: str, limit: int) -> Record:
    """The event, under `id`."""
    record = _record(event, _EVENT, "") | _name_and_key(event, id, "")
    return record | {"event_data": encode(event.event_data, "event_data", limit)}


def error_record(error: ExecutionError, nonce: int, path: str) -> Record:
    """What went wrong."""
    return _record(error, _ERROR, f"{path}.") | {"nonce": nonce}


def command_record(command: ScheduledCommand) -> Record:
    """The command."""
    record = _record(command, _COMMAND, "")
    record["data"] = keys((record["command_name"], "command_name"), (command.data, "data"))[1]
    return record


def encode_plain_records(records: list[Record]) -> str:
    """Records without users' JSON in them, as one JSON array."""
    return f"[{','.join(map(encode_record, records))}]"


def _encode_pointers(instance: WorkflowInstance, changes: Changes, limit: int) -> str:
    pointers, id, nulls = instance.execution_pointers, changes.after.workflow_id, changes.after.json_nulls.get
    encoded = [
        encode_pointer(it := pointers[index], position, id, f"execution_pointers[{index}]", limit, nulls(it.id, ()))
        for index, position in changes.pointers
    ]
    return f"[{','.join(encoded)}]"


def _record(source: Any, columns: _Validated, prefix: str) -> Record:
    return {column: validate(getattr(source, name), prefix + name) for column, name, validate in columns}


def _name_and_key(source: Event | EventSubscription, id: str, prefix: str) -> Record:
    name, of_name = keys((source.event_name, f"{prefix}event_name"), (source.event_key, f"{prefix}event_key"))
    return {"id": key(id, f"{prefix}id"), "event_name": name, "event_key": of_name}


def _is_in_range(pointer: ExecutionPointer, workflow_id: str) -> bool:
    """Whether a pointer whose types are right has no other fault. False: it is to be looked at more closely."""
    numbers, times = (pointer.step_id, pointer.retry_count), (pointer.sleep_until, pointer.start_time, pointer.end_time)
    for number in numbers:
        if type(number) is not int or not 0 <= number < INT4:
            return False
    for time in times:
        if time is not None and time.tzinfo is not UTC:
            return False
    return 4 * (len(workflow_id) + len(pointer.id)) <= MAX_KEY_BYTES


def _validate_shape(pointer: ExecutionPointer, path: str) -> None:
    for name, ids in (("children", pointer.children), ("scope", pointer.scope)):
        if not isinstance(ids, list | tuple):
            raise SerializationError(f"{path}.{name}", f"a list of ids is needed, not {type(ids).__name__}")
        for index, id in enumerate(ids):
            text(id, f"{path}.{name}[{index}]")
    if not isinstance(pointer.extension_attributes, dict):
        raise SerializationError(f"{path}.extension_attributes", "a dict is needed")


def _encode_record(record: Record, json_values: Record, json_nulls: Collection[str], prefix: str, limit: int) -> str:
    present = {name: value for name, value in json_values.items() if value is not None and value is not JSON_NULL}
    if json_nulls:
        record["json_nulls"] = dict.fromkeys(json_nulls)
    members = encode_members(present, prefix, limit)
    encoded = encode_record(record)
    return f"{encoded[:-1]},{members}}}" if members else encoded
