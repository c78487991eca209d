"""What a step is given."""

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import Event, ExecutionPointer, WorkflowInstance

if TYPE_CHECKING:
    from wfe_postgres.host.definitions import Definitions

LOG = logging.getLogger("wfe_postgres.host")


@dataclass(kw_only=True)
class StepContext:
    """The argument of a step, valid while it runs.

    What the step changes in `data` is stored if it returns, with its result and in one transaction.
    """

    workflow: WorkflowInstance
    """What is stored of the workflow: its id, reference, data."""
    pointer: ExecutionPointer
    """What is stored of the step; its id is the same in each attempt, and can be an idempotency key."""
    now: datetime
    """When the step began, by the host's clock."""
    provider: PersistenceProvider
    """Joined to the step's transaction, if the host has `transaction=`: what it writes is committed with the step."""
    definitions: "Definitions"
    """What the host knows."""
    session: Any = None
    """What the host's `transaction` gave."""
    is_cancelled: Callable[[], bool] = bool

    @property
    def data(self) -> Any:
        """The workflow's data, to be changed in place."""
        return self.workflow.data

    @property
    def item(self) -> Any:
        """The item of this branch of a `for_each`, else `None`."""
        return self.pointer.context_item

    @property
    def persistence_data(self) -> Any:
        """What the step returned as `persistence_data` when it last ran, else `None`."""
        return self.pointer.persistence_data

    @property
    def event(self) -> Event | None:
        """The event that the pointer waited for and has been given, also after it was purged; else `None`."""
        return event_of(self.pointer)

    @property
    def attempt(self) -> int:
        """1, and one more after each failure."""
        return self.pointer.retry_count + 1

    @property
    def cancelled(self) -> bool:
        """True once the lease is lost or the host is stopping. A long step looks at it and returns."""
        return self.is_cancelled()

    @property
    def log(self) -> "StepLogger":
        """A logger that names the workflow and the step."""
        return StepLogger(LOG, {"workflow": self.workflow.id, "step": self.pointer.step_name})


class StepLogger(logging.LoggerAdapter[logging.Logger]):
    """Puts the workflow's id and the step's name before each message."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter`."""
        found = self.extra or {}
        return f"workflow {found['workflow']!r}, step {found['step']!r}: {msg}", kwargs


def event_of(pointer: ExecutionPointer) -> Event | None:
    """The event that the pointer has been given last and not yet been done with."""
    received = pointer.extension_attributes.get("events")
    if not pointer.event_published or not received:
        return None
    last = received[-1]
    return Event(
        pointer.event_name or "",
        pointer.event_key or "",
        pointer.event_data,
        id=last["id"],
        event_time=datetime.fromisoformat(last["time"]),
        is_processed=True,
    )
