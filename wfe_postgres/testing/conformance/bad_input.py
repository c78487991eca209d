"""Invalid input: values that JSON or PostgreSQL cannot represent, and arguments out of range, with their paths."""

import random
import string
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionError, ScheduledCommand, WorkflowInstance
from wfe_postgres.testing.conformance.commands import never
from wfe_postgres.testing.conformance.support import at, command, from_now

NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - an invalid value
TOO_LONG = "".join(random.Random(1).choices(string.ascii_letters, k=10_000))


class UnknownOffset(tzinfo):
    """A time zone without an offset; a datetime with it counts as naive."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> None:
        return None


def circle() -> dict[str, Any]:
    """A mapping that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def deep() -> list[Any]:
    """A list that is nested too deeply to be decoded."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


BAD_JSON: dict[str, Any] = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "NUL": "a\0b",
    "lone high surrogate": "\ud83d",
    "lone low surrogate": "a\ude00",
    "two surrogates that make a pair": "\ud83d\ude00",
    "set": {1, 2},
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "Decimal": Decimal("1.5"),
    "complex": 1j,
    "datetime": at(0),
    "date": date(2024, 1, 1),
    "UUID": UUID(int=1),
    "object": object(),
    "generator": (number for number in range(3)),
    "range": range(3),
    "4,001 digits": 10**4000,
    "4,001 digits, negative": -(10**4000),
    "5,000 digits": 10**5000,
    "key that is an integer": {1: "one"},
    "key that is None": {None: "none"},
    "key that is a bool": {True: "true"},
    "key that is a tuple": {("a", "b"): "pair"},
    "one key as text and number": {"1": "text", 1: "number"},
    "key with NUL": {"a\0b": 1},
    "key with a surrogate": {"\ud83d": 1},
}

NESTINGS: dict[str, Callable[[Any], Any]] = {
    "": lambda value: value,
    ".order.lines[3].price": lambda value: {"order": {"lines": [1, 2.5, "x", {"price": value}], "more": {}}},
    "[1][0]": lambda value: [[], (value, {}), None],
}

BAD_WORKFLOWS: dict[str, tuple[str, Any]] = {
    "naive create_time": ("create_time", NAIVE),
    "naive complete_time": ("complete_time", NAIVE),
    "create_time without offset": ("create_time", NAIVE.replace(tzinfo=UnknownOffset())),
    "create_time after the year 9999": (
        "create_time",
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    ),
    "create_time before the year 1": ("create_time", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
    "create_time that is a date": ("create_time", date(2024, 1, 1)),
    "create_time that is text": ("create_time", "2024-01-01T00:00:00Z"),
    "no create_time": ("create_time", None),
    "version too big": ("version", 2**31),
    "version too small": ("version", -(2**31) - 1),
    "version that is a float": ("version", 1.0),
    "version that is text": ("version", "1"),
    "no version": ("version", None),
    "next_execution too big": ("next_execution", 2**63),
    "next_execution too small": ("next_execution", -(2**63) - 1),
    "next_execution that is a time": ("next_execution", at(0)),
    "status that is none": ("status", "Sleeping"),
    "no status": ("status", None),
    "definition with NUL": ("workflow_definition_id", "a\0b"),
    "no definition": ("workflow_definition_id", None),
    "description with a surrogate": ("description", "\ud83d"),
    "description that is a number": ("description", 1),
    "reference with two surrogates": ("reference", "\ud83d\ude00"),
    "root with NUL": ("root_workflow_id", "\0"),
    "name too long": ("name", TOO_LONG),
}

BAD_POINTERS: dict[str, tuple[str, Any]] = {
    "naive sleep_until": ("sleep_until", NAIVE),
    "naive start_time": ("start_time", NAIVE),
    "naive end_time": ("end_time", NAIVE),
    "step_id too big": ("step_id", 2**31),
    "retry_count too small": ("retry_count", -(2**31) - 1),
    "status that is none": ("status", "Runnable"),
    "id with NUL": ("id", "\0"),
    "id that is None": ("id", None),
    "id that is a list": ("id", ["first"]),
    "step_name with a surrogate": ("step_name", "\udc00"),
    "event_name with NUL": ("event_name", "\0"),
    "event_key that is a number": ("event_key", 1),
    "predecessor that is a number": ("predecessor_id", 1),
    "active that is None": ("active", None),
    "active that is text": ("active", "true"),
    "event_published that is None": ("event_published", None),
    "children that are None": ("children", None),
    "scope that is text": ("scope", "outer"),
    "extension_attributes that are a list": ("extension_attributes", []),
}

Call = Callable[[PersistenceProvider], object]
BAD_ARGUMENTS: dict[str, tuple[str, Call]] = {
    "get_runnable_instances": ("as_at", lambda it: it.get_runnable_instances(NAIVE)),
    "get_workflow_instance": ("id", lambda it: it.get_workflow_instance("\0")),
    "get_workflow_instance_by_name": ("name", lambda it: it.get_workflow_instance_by_name("\ud83d")),
    "get_workflow_instances": ("ids[1]", lambda it: it.get_workflow_instances(["good", "\0"])),
    "next_definition_sequence": ("definition_id", lambda it: it.next_definition_sequence("\0")),
    "get_event": ("id", lambda it: it.get_event("\0")),
    "get_runnable_events": ("as_at", lambda it: it.get_runnable_events(NAIVE)),
    "get_events, as_of": ("as_of", lambda it: it.get_events("paid", "order-1", NAIVE)),
    "get_events, name": ("event_name", lambda it: it.get_events("\0", "order-1", at(0))),
    "get_events, key": ("event_key", lambda it: it.get_events("paid", "\ud83d", at(0))),
    "get_events_since, name": ("event_name", lambda it: it.get_events_since("\0", "order-1", at(0))),
    "get_events_since, since": ("since", lambda it: it.get_events_since("paid", "order-1", NAIVE)),
    "get_events_since, key": ("event_key", lambda it: it.get_events_since("paid", "\0", at(0))),
    "mark_event_processed": ("id", lambda it: it.mark_event_processed("\0")),
    "mark_event_unprocessed": ("id", lambda it: it.mark_event_unprocessed("\0")),
    "get_subscription": ("id", lambda it: it.get_subscription("\0")),
    "get_subscriptions": ("as_of", lambda it: it.get_subscriptions("paid", "order-1", NAIVE)),
    "get_subscriptions, name": ("event_name", lambda it: it.get_subscriptions("\0", "order-1", at(0))),
    "get_subscriptions, key": ("event_key", lambda it: it.get_subscriptions("paid", "\ud83d", at(0))),
    "get_first_open_subscription": ("as_of", lambda it: it.get_first_open_subscription("paid", "1", NAIVE)),
    "set_subscription_token, expiry": ("expiry", lambda it: it.set_subscription_token("held", "t", "w", NAIVE)),
    "set_subscription_token, token": (
        "token",
        lambda it: it.set_subscription_token("held", "\0", "w", from_now(60)),
    ),
    "set_subscription_token, worker": (
        "worker_id",
        lambda it: it.set_subscription_token("held", "t", "\ud83d", from_now(60)),
    ),
    "clear_subscription_token": ("token", lambda it: it.clear_subscription_token("held", "\0")),
    "terminate_subscription": ("id", lambda it: it.terminate_subscription("\0")),
    "schedule_command, time": (
        "execute_time",
        lambda it: it.schedule_command(ScheduledCommand.process_event("command", 2**63)),
    ),
    "schedule_command, data": ("data", lambda it: it.schedule_command(command("\0"))),
    "schedule_command, too long": ("data", lambda it: it.schedule_command(command(TOO_LONG))),
    "schedule_command, name": (
        "command_name",
        lambda it: it.schedule_command(ScheduledCommand("Unknown", "command", 0)),  # type: ignore[arg-type]
    ),
    "process_commands": ("as_of", lambda it: it.process_commands(NAIVE, never)),
    "persist_errors, message": (
        "errors[1].message",
        lambda it: it.persist_errors([ExecutionError("w", "p", "good"), ExecutionError("w", "p", "\0")]),
    ),
    "persist_errors, time": (
        "errors[0].error_time",
        lambda it: it.persist_errors([ExecutionError("w", "p", "bad", error_time=NAIVE)]),
    ),
}

BAD_EVENTS: dict[str, tuple[str, Any]] = {
    "naive event_time": ("event_time", NAIVE),
    "event_name with NUL": ("event_name", "\0"),
    "no event_key": ("event_key", None),
    "id with a surrogate": ("id", "\ud83d"),
    "id too long": ("id", TOO_LONG),
    "event_key too long": ("event_key", TOO_LONG),
    "is_processed that is None": ("is_processed", None),
}

BAD_SUBSCRIPTIONS: dict[str, tuple[str, Any]] = {
    "naive subscribe_as_of": ("subscribe_as_of", NAIVE),
    "naive expiry": ("external_token_expiry", NAIVE),
    "step_id too big": ("step_id", 2**31),
    "id with NUL": ("id", "\0"),
    "id too long": ("id", TOO_LONG),
    "no workflow_id": ("workflow_id", None),
    "pointer with NUL": ("execution_pointer_id", "\0"),
    "no event_name": ("event_name", None),
    "event_key with a surrogate": ("event_key", "\ud83d"),
    "token with NUL": ("external_token", "\0"),
    "worker with NUL": ("external_worker_id", "\0"),
}

JSON_FIELDS: dict[str, Callable[[WorkflowInstance, Any], None]] = {
    "data": lambda it, value: setattr(it, "data", value),
    "execution_pointers[1].persistence_data": lambda it, value: _set(it, "persistence_data", value),
    "execution_pointers[1].event_data": lambda it, value: _set(it, "event_data", value),
    "execution_pointers[1].context_item": lambda it, value: _set(it, "context_item", value),
    "execution_pointers[1].outcome": lambda it, value: _set(it, "outcome", value),
    "execution_pointers[1].extension_attributes.key": lambda it, value: _set(
        it, "extension_attributes", {"key": value}
    ),
}
"""Setters for the JSON fields of a workflow, by the path in the error."""


def _set(instance: WorkflowInstance, field: str, value: Any) -> None:
    setattr(instance.execution_pointers[1], field, value)
