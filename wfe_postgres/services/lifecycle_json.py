"""Lifecycle events as JSON, in the form in which the engine's publishers write them.

That form is what serde makes of the Rust struct `LifecycleEvent` (`wfe-core/src/models/lifecycle.rs`): its field names,
a type without fields as text, one with fields as an object of one key. What the struct lacks (`execution_pointer_id`,
and the step of an Error) is added; serde ignores it. All characters beyond ASCII are escaped, so that a database of any
encoding takes the text.
"""

import json
from datetime import datetime
from typing import Any

from wfe_postgres.codec.validation import timestamp
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType

_FIELDS: dict[LifecycleEventType, tuple[str, ...]] = {
    LifecycleEventType.ERROR: ("message", "step_id", "step_name"),
    LifecycleEventType.STEP_STARTED: ("step_id", "step_name"),
    LifecycleEventType.STEP_COMPLETED: ("step_id", "step_name"),
}


def encode(event: LifecycleEvent) -> str:
    """The event as one line of ASCII. Raises `SerializationError`."""
    type = LifecycleEventType(event.type)
    fields = {name: getattr(event, name) for name in _FIELDS.get(type, ())}
    if type is LifecycleEventType.ERROR:
        fields["message"] = event.message or ""
    values = {
        "event_time_utc": timestamp(event.event_time, "event_time").replace("+00:00", "Z"),
        "workflow_instance_id": event.workflow_id,
        "workflow_definition_id": event.workflow_definition_id,
        "version": event.version,
        "reference": event.reference,
        "event_type": {type.value: fields} if fields else type.value,
    }
    if fields:
        values["execution_pointer_id"] = event.execution_pointer_id
    try:
        return json.dumps(values, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        pass
    raise SerializationError("event", "a field holds what is neither text nor an integer")


def decode(payload: str) -> LifecycleEvent:
    """The event that this engine's or another's publisher wrote. Raises `ValueError`, `TypeError` or `KeyError`."""
    values: dict[str, Any] = json.loads(payload)
    type: Any = values["event_type"]
    [(name, fields)] = type.items() if isinstance(type, dict) else [(type, {})]
    return LifecycleEvent(
        type=LifecycleEventType(name),
        event_time=datetime.fromisoformat(values["event_time_utc"]),
        workflow_id=values["workflow_instance_id"],
        workflow_definition_id=values["workflow_definition_id"],
        version=values["version"],
        reference=values.get("reference"),
        execution_pointer_id=values.get("execution_pointer_id"),
        step_id=fields.get("step_id"),
        step_name=fields.get("step_name"),
        message=fields.get("message") or None,
    )
