"""The data of the in-memory provider, and the normalization of stored objects."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import RLock
from typing import Any, TypeVar

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

_Model = TypeVar(
    "_Model", WorkflowInstance, ExecutionPointer, Event, EventSubscription, ExecutionError, ScheduledCommand
)

_JSON: tuple[Any, ...] = (Any, list[str], dict[str, Any])


@dataclass
class CommandEntry:
    """A scheduled command with its claim and the end of its lease."""

    command: ScheduledCommand
    claim: int | None = None
    claimed_until: datetime | None = None
    rescheduled: bool = False


@dataclass
class Store:
    """All stored data. Access requires the lock; callers receive copies."""

    lock: RLock = field(default_factory=RLock)
    workflows: dict[str, WorkflowInstance] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    subscriptions: dict[str, EventSubscription] = field(default_factory=dict)
    commands: dict[tuple[str, str], CommandEntry] = field(default_factory=dict)
    errors: list[ExecutionError] = field(default_factory=list)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock for the block, and restore the data if it raises."""
        with self.lock:
            before = {it.name: copy.deepcopy(getattr(self, it.name)) for it in fields(self) if it.name != "lock"}
            try:
                yield
            except BaseException:
                vars(self).update(before)
                raise


class InMemoryPart:
    """Attributes that the parts of the provider share."""

    _store: Store
    _clock: Callable[[], datetime]
    _lease: timedelta
    _limit: int


def kept(model: _Model) -> _Model:
    """A normalized copy of a validated model, as returned by a load: JSON round-tripped, times in UTC, enum members."""
    return replace(model, **{it.name: _kept_value(getattr(model, it.name), it.type) for it in fields(model)})


def _kept_value(value: Any, kind: Any) -> Any:
    if value is None or value is JSON_NULL:
        return None
    if kind == list[ExecutionPointer]:
        return [kept(pointer) for pointer in value]
    if kind in _JSON:
        return json.loads(json.dumps(value))
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return kind(value) if isinstance(kind, type) and issubclass(kind, StrEnum) else value


def check_distinct(ids: Iterable[str], path: str) -> None:
    """Raise `SerializationError` with the path of the second one if two ids are equal."""
    seen: set[str] = set()
    for index, it in enumerate(ids):
        if it in seen:
            raise SerializationError(f"{path}[{index}].id", "duplicate id")
        seen.add(it)
