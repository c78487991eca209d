"""What a step returns: how the workflow goes on after it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from wfe_postgres.contract.models import WorkflowInstance

Time = float | timedelta
"""A length of time: seconds, or a `timedelta`."""


def seconds(time: Time) -> float:
    """The time in seconds. ValueError: it is negative or no number."""
    length = time.total_seconds() if isinstance(time, timedelta) else time
    if not (isinstance(length, (int, float)) and length >= 0):
        raise ValueError("a time is a number of seconds from 0 up, or such a timedelta")
    return length


def checked(time: Any, name: str) -> Any:
    """The time as it is. ValueError, with the step's name: it is negative."""
    try:
        if time is not None and not callable(time):
            seconds(time)
    except (ValueError, TypeError) as error:
        raise ValueError(f"step {name!r}: {error}") from None
    return time


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Which event the pointer waits for, and for how many seconds."""

    event_name: str
    event_key: str
    as_of: datetime | None = None
    """Only events from this time on; `None`: from the creation of the workflow on."""
    timeout: float | None = None
    subscription_data: Any = None

    def __post_init__(self) -> None:
        """ValueError: the key is no text, as the integer that is the primary key of a row."""
        if not isinstance(self.event_key, str):
            raise ValueError(f"the key of an event {self.event_name!r} is text, not {type(self.event_key).__name__}")


@dataclass(frozen=True, kw_only=True)
class ExecutionResult:
    """How the workflow goes on after a step. Made by the class methods; a step that returns `None` means `next()`.

    `persistence_data` (any JSON value) is what the step finds in its context when it is run again.
    """

    proceeds: bool = False
    value: Any = None
    persistence_data: Any = None
    items: tuple[Any, ...] = ()
    branch_indices: tuple[int, ...] | None = None
    """Which of the step's branches begin; `None`: all of them."""
    sleep_time: float | None = None
    wake_time: datetime | None = None
    wait: Wait | None = None
    child: WorkflowInstance | None = None
    """A workflow that is created in the transaction that saves this result."""
    ends_workflow: bool = False

    @classmethod
    def next(cls) -> Self:
        """The step is complete, and the workflow goes on with the step after it."""
        return cls(proceeds=True)

    @classmethod
    def outcome(cls, value: Any) -> Self:
        """As `next`; the value (any JSON value) is stored as the pointer's outcome."""
        return cls(proceeds=True, value=value)

    @classmethod
    def persist(cls, persistence_data: Any) -> Self:
        """Save, and run the step again at once."""
        return cls(persistence_data=persistence_data)

    @classmethod
    def branch(cls, items: Iterable[Any], persistence_data: Any = None) -> Self:
        """Begin the step's branches once for each item, and run the step again when all of them have ended."""
        return cls(items=tuple(items), persistence_data=persistence_data)

    @classmethod
    def sleep(cls, time: Time, persistence_data: Any = None) -> Self:
        """Run the step again after this time."""
        return cls(sleep_time=seconds(time), persistence_data=persistence_data)

    @classmethod
    def sleep_until(cls, time: datetime, persistence_data: Any = None) -> Self:
        """Run the step again at this time, which is timezone-aware."""
        return cls(wake_time=time, persistence_data=persistence_data)

    @classmethod
    def wait_for_event(cls, name: str, key: str, as_of: datetime | None = None, persistence_data: Any = None) -> Self:
        """Run the step again with the event in its context, when one of this name and key has been published."""
        return cls(wait=Wait(event_name=name, event_key=key, as_of=as_of), persistence_data=persistence_data)
