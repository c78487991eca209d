"""What the queries beyond the engine's interfaces answer: for applications and operators."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

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


class WorkflowFilters(TypedDict, total=False):
    """The filters of `find_workflows`; `None` is none."""

    status: WorkflowStatus | Collection[WorkflowStatus] | None
    definition_id: str | None
    version: int | None
    reference: str | None
    root_workflow_id: str | None
    created_from: datetime | None
    """`created_from <= create_time < created_to`"""
    created_to: datetime | None
    completed_from: datetime | None
    """`completed_from <= complete_time < completed_to`"""
    completed_to: datetime | None
    name_prefix: str | None
    """1 to 200 characters, like `reference_prefix`."""
    reference_prefix: str | None
    untouched_since: datetime | None
    """Last saved before this time; together with `status` or `definition_id` only."""


@dataclass(frozen=True)
class WorkflowPage:
    """One page of `find_workflows`."""

    items: list[WorkflowSummary]
    """Can be fewer than the limit, or none, on a page that is not the last."""
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
