"""Which column of a table holds which attribute of a contract object: one line per column.

A `Field` says how the attribute is validated before it is sent, and how it is made from what the database gives.
Encoding, decoding and change tracking follow these tables; a new column is a line here and one in `wfe_postgres.orm`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute

from wfe_postgres.codec.validation import big_integer, boolean, key, member, natural, optional, text, timestamp
from wfe_postgres.contract.models import CommandName, PointerStatus, WorkflowStatus
from wfe_postgres.orm import CommandRow, ErrorRow, EventRow, PointerRow, SubscriptionRow, WorkflowRow


def as_stored(value: Any) -> Any:
    """The value itself."""
    return value


def required(value: Any) -> Any:
    """The value. ValueError: it is NULL, which a column from the Rust layout allows and the engine does not."""
    if value is None:
        raise ValueError("NULL in a column that should hold a value")
    return value


def list_or_dict(kind: type, value: Any) -> Any:
    """The value. TypeError: it is not of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"JSON that is no {kind.__name__}")
    return value


def to_datetime(value: str) -> datetime:
    """A time in UTC from the text of a timestamp without time zone."""
    return datetime.fromisoformat(value + "+00:00")


def to_optional_datetime(value: str | None) -> datetime | None:
    """As `to_datetime`; `None` where it is NULL."""
    return None if value is None else datetime.fromisoformat(value + "+00:00")


WORKFLOW_STATUS = {status.value: status for status in WorkflowStatus}
POINTER_STATUS = {status.value: status for status in PointerStatus}
COMMAND_NAME = {name.value: name for name in CommandName}


@dataclass(frozen=True, slots=True)
class Field:
    """A column and the attribute it holds."""

    column: InstrumentedAttribute[Any]
    validate: Callable[[Any, str], Any] | None = None
    """(value, path) to parameter, or a `SerializationError`. `None`: a JSON value, or not sent."""
    read: Callable[[Any], Any] = as_stored
    """From what JSON makes of the column; ValueError, TypeError or KeyError: the row is corrupt."""
    attribute: str = ""
    """The attribute's name, where it is not the column's; `NO_ATTRIBUTE`: there is none."""

    @property
    def name(self) -> str:
        """The attribute's name."""
        return self.attribute or self.column.key


NO_ATTRIBUTE = "-"

Fields = tuple[Field, ...]

_optional_text = optional(text)
_optional_timestamp = optional(timestamp)

WORKFLOW_FIELDS: Fields = (
    Field(WorkflowRow.id, key),
    Field(WorkflowRow.name, key),
    Field(WorkflowRow.root_workflow_id, optional(key)),
    Field(WorkflowRow.definition_id, key, attribute="workflow_definition_id"),
    Field(WorkflowRow.version, natural),
    Field(WorkflowRow.description, _optional_text),
    Field(WorkflowRow.reference, _optional_text),
    Field(WorkflowRow.status, partial(member, WorkflowStatus), WORKFLOW_STATUS.__getitem__),
    Field(WorkflowRow.data),
    Field(WorkflowRow.next_execution, optional(big_integer)),
    Field(WorkflowRow.create_time, timestamp, to_datetime),
    Field(WorkflowRow.complete_time, _optional_timestamp, to_optional_datetime),
    Field(WorkflowRow.revision),
)

STATE_FIELDS: Fields = tuple(it for it in WORKFLOW_FIELDS if it.name in ("status", "next_execution", "complete_time"))
"""What a host changes, beside the data. The others are sent only if they were changed."""

SUMMARY_FIELDS: Fields = tuple(it for it in WORKFLOW_FIELDS if it.name not in ("data", "revision"))

POINTER_FIELDS: Fields = (
    Field(PointerRow.id, text),
    Field(PointerRow.step_id, natural),
    Field(PointerRow.active, boolean),
    Field(PointerRow.status, partial(member, PointerStatus), POINTER_STATUS.__getitem__),
    Field(PointerRow.sleep_until, _optional_timestamp, to_optional_datetime),
    Field(PointerRow.persistence_data),
    Field(PointerRow.start_time, _optional_timestamp, to_optional_datetime),
    Field(PointerRow.end_time, _optional_timestamp, to_optional_datetime),
    Field(PointerRow.event_name, _optional_text),
    Field(PointerRow.event_key, _optional_text),
    Field(PointerRow.event_published, boolean, required),
    Field(PointerRow.event_data),
    Field(PointerRow.step_name, _optional_text),
    Field(PointerRow.retry_count, natural, required),
    Field(PointerRow.children, read=partial(list_or_dict, list)),
    Field(PointerRow.context_item),
    Field(PointerRow.predecessor_id, _optional_text),
    Field(PointerRow.outcome),
    Field(PointerRow.scope, read=partial(list_or_dict, list)),
    Field(PointerRow.extension_attributes, read=partial(list_or_dict, dict)),
    Field(PointerRow.position, attribute=NO_ATTRIBUTE),
)

SUBSCRIPTION_FIELDS: Fields = (
    Field(SubscriptionRow.id, key),
    Field(SubscriptionRow.workflow_id, key),
    Field(SubscriptionRow.step_id, natural),
    Field(SubscriptionRow.execution_pointer_id, text),
    Field(SubscriptionRow.event_name, key),
    Field(SubscriptionRow.event_key, key),
    Field(SubscriptionRow.subscribe_as_of, timestamp, to_datetime),
    Field(SubscriptionRow.subscription_data),
    Field(SubscriptionRow.external_token, _optional_text),
    Field(SubscriptionRow.external_worker_id, _optional_text),
    Field(SubscriptionRow.external_token_expiry, _optional_timestamp, to_optional_datetime),
)

EVENT_FIELDS: Fields = (
    Field(EventRow.id, key),
    Field(EventRow.event_name, key),
    Field(EventRow.event_key, key),
    Field(EventRow.event_data),
    Field(EventRow.event_time, timestamp, to_datetime),
    Field(EventRow.is_processed, boolean, required),
)

ERROR_FIELDS: Fields = (
    Field(ErrorRow.id, attribute=NO_ATTRIBUTE),
    Field(ErrorRow.workflow_id, key),
    Field(ErrorRow.execution_pointer_id, text),
    Field(ErrorRow.message, text),
    Field(ErrorRow.error_time, timestamp, to_datetime),
)

COMMAND_FIELDS: Fields = (
    Field(CommandRow.command_name, partial(member, CommandName), COMMAND_NAME.__getitem__),
    Field(CommandRow.data, key),
    Field(CommandRow.execute_time, big_integer),
)


def json_fields(fields: Fields) -> Fields:
    """The fields that hold JSON values."""
    return tuple(field for field in fields if isinstance(field.column.type, JSONB))


def json_and_text_fields(fields: Fields) -> Fields:
    """The fields that hold values of any length, without the id."""
    return tuple(it for it in fields if isinstance(it.column.type, JSONB | Text) and it.name not in ("id", "status"))


def optional_json_fields(fields: Fields) -> Fields:
    """The fields that hold a JSON value or none, where SQL NULL and JSON null are two things."""
    return tuple(it for it in json_fields(fields) if it.column.nullable and it.read is as_stored)
