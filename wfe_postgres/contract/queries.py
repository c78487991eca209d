"""What the queries beyond the engine's interfaces answer: for applications and operators."""

from dataclasses import dataclass
from datetime import datetime

from wfe_postgres.contract.models import WorkflowStatus


@dataclass(frozen=True)
class WorkflowSummary:
    """A workflow without its data and its pointers: what a list shows."""

    id: str
    name: str
    workflow_definition_id: str
    version: int
    status: WorkflowStatus
    description: str | None
    reference: str | None
    root_workflow_id: str | None
    next_execution: int | None
    """Milliseconds since the Unix epoch; `None`: waiting, never polled."""
    create_time: datetime
    complete_time: datetime | None


@dataclass(frozen=True)
class WorkflowPage:
    """One page of `find_workflows`, newest first."""

    items: list[WorkflowSummary]
    next_cursor: str | None
    """Opaque text that asks for the page after this one; `None` at the end."""


@dataclass(frozen=True)
class StoreStatistics:
    """How the store stands at one moment: one statement, one snapshot."""

    workflows: dict[WorkflowStatus, int]
    """How many there are of every status; a status that none has counts 0."""
    runnable_due: int
    """Runnable workflows whose `next_execution` has come."""
    oldest_due: datetime | None
    """The earliest `next_execution` among those that are due: 1970 for a new workflow, which has 0 there."""
    unprocessed_events: int
    oldest_unprocessed_event: datetime | None
    """The earliest `event_time` among the unprocessed."""
    due_commands: int
    oldest_due_command: datetime | None
    """The earliest `execute_time` among the due."""
    open_subscriptions: int
    """Those that carry no token, or an expired one."""
    held_subscriptions: int
    expired_subscriptions: int
    """Those whose token has expired: they count as open, too."""
    execution_errors: int
    schema_revision: str | None
    clock_offset: float
    """Seconds by which this machine's clock is ahead of the server's."""
