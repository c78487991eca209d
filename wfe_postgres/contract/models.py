"""What a workflow host stores and loads. Plain dataclasses; names and spellings are those of WFE."""

from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Self
from uuid import uuid4


class WorkflowStatus(StrEnum):
    """The state of a workflow; the values are what the Rust engine writes into `workflows.status`."""

    RUNNABLE = "Runnable"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    TERMINATED = "Terminated"


class PointerStatus(StrEnum):
    """The state of a step; the values are what the Rust engine writes into `execution_pointers.status`."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETE = "Complete"
    SKIPPED = "Skipped"
    SLEEPING = "Sleeping"
    WAITING_FOR_EVENT = "WaitingForEvent"
    FAILED = "Failed"
    COMPENSATED = "Compensated"
    CANCELLED = "Cancelled"
    PENDING_PREDECESSOR = "PendingPredecessor"


class CommandName(StrEnum):
    """What a scheduled command asks for; the values stand in `scheduled_commands.command_name`."""

    PROCESS_WORKFLOW = "ProcessWorkflow"
    PROCESS_EVENT = "ProcessEvent"


class JsonNull(Enum):
    """The type of `JSON_NULL`. An enum, so that copies and pickles are the same object."""

    JSON_NULL = "null"

    def __repr__(self) -> str:
        return self.name


JSON_NULL = JsonNull.JSON_NULL
"""Stores JSON null in an optional JSON field, where `None` stores SQL NULL. A load returns `None` for both."""


FINISHED_POINTERS = frozenset(
    {
        PointerStatus.COMPLETE,
        PointerStatus.SKIPPED,
        PointerStatus.COMPENSATED,
        PointerStatus.CANCELLED,
        PointerStatus.FAILED,
    }
)


def new_id() -> str:
    """A new UUID (version 4) as text: the default id of everything that has one."""
    return str(uuid4())


def now() -> datetime:
    """The present moment by this machine's clock, in UTC."""
    return datetime.now(UTC)


@dataclass
class ExecutionPointer:
    """One step of one workflow: its state, what it waits for, and its outcome.

    The fields typed `Any` hold JSON values; `None` in them is SQL NULL, `JSON_NULL` is JSON null. A field that was
    loaded as `None` and is still `None` is stored as it was. The `event_data` of an `event_published` pointer is never
    SQL NULL. `step_id` and `retry_count` are not negative.
    """

    step_id: int
    _: KW_ONLY
    id: str = field(default_factory=new_id)
    """Unique within its workflow."""
    active: bool = True
    status: PointerStatus = PointerStatus.PENDING
    sleep_until: datetime | None = None
    persistence_data: Any = None
    """What the step keeps for its next run."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    event_name: str | None = None
    event_key: str | None = None
    event_published: bool = False
    event_data: Any = None
    step_name: str | None = None
    retry_count: int = 0
    children: list[str] = field(default_factory=list)
    """Ids of the pointers that this one spawned."""
    context_item: Any = None
    """The item that a branch of a fan-out works on."""
    predecessor_id: str | None = None
    outcome: Any = None
    scope: list[str] = field(default_factory=list)
    """Ids of the enclosing pointers, outermost first."""
    extension_attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class WorkflowInstance:
    """One run of a workflow definition, with all its pointers."""

    workflow_definition_id: str
    version: int
    data: Any = field(default_factory=dict)
    """The workflow's own state, any JSON value; never NULL in the store."""
    _: KW_ONLY
    id: str = field(default_factory=new_id)
    name: str = ""
    """Unique across the store; empty on creation means: the same as `id`."""
    root_workflow_id: str | None = None
    description: str | None = None
    reference: str | None = None
    """The application's own key: an order number, say."""
    execution_pointers: list[ExecutionPointer] = field(default_factory=list)
    next_execution: int | None = 0
    """Milliseconds since the Unix epoch; `None`: waiting, never polled."""
    status: WorkflowStatus = WorkflowStatus.RUNNABLE
    create_time: datetime = field(default_factory=now)
    complete_time: datetime | None = None
    revision: int | None = field(default=None, compare=False)
    """The optimistic-locking number: `None` until the first load or save, set by each of them."""

    def is_branch_complete(self, scope: list[str]) -> bool:
        """True when every pointer whose `scope` equals this one has ended, and when there is none."""
        return all(pointer.status in FINISHED_POINTERS for pointer in self.execution_pointers if pointer.scope == scope)


@dataclass
class Event:
    """Something that happened, identified by name and key for the workflows that wait for it."""

    event_name: str
    event_key: str
    event_data: Any = None
    """Any JSON value; `None` is stored as JSON null."""
    _: KW_ONLY
    id: str = field(default_factory=new_id)
    event_time: datetime = field(default_factory=now)
    is_processed: bool = False


@dataclass
class EventSubscription:
    """A pointer's wait for an event, and which worker holds the right to deliver it."""

    workflow_id: str
    step_id: int
    execution_pointer_id: str
    event_name: str
    event_key: str
    subscribe_as_of: datetime = field(default_factory=now)
    _: KW_ONLY
    id: str = field(default_factory=new_id)
    subscription_data: Any = None
    external_token: str | None = None
    external_worker_id: str | None = None
    external_token_expiry: datetime | None = None
    """When the token expires, by the database's clock; `None` with a token: never."""


@dataclass
class ExecutionError:
    """An error of one run of one step."""

    workflow_id: str
    execution_pointer_id: str
    message: str
    _: KW_ONLY
    error_time: datetime = field(default_factory=now)


@dataclass
class ScheduledCommand:
    """Something that hosts carry out from a given time on, identified by (command_name, data)."""

    command_name: CommandName
    data: str
    execute_time: int
    """Milliseconds since the Unix epoch."""

    @classmethod
    def process_workflow(cls, workflow_id: str, execute_time: int) -> Self:
        """The command to look at a workflow at `execute_time` (milliseconds since the epoch)."""
        return cls(CommandName.PROCESS_WORKFLOW, workflow_id, execute_time)

    @classmethod
    def process_event(cls, event_id: str, execute_time: int) -> Self:
        """The command to deliver an event at `execute_time` (milliseconds since the epoch)."""
        return cls(CommandName.PROCESS_EVENT, event_id, execute_time)
