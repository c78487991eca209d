"""A line of the order page: status, current step, awaited events and errors of a workflow."""

from dataclasses import dataclass
from typing import Any

from wfe_postgres import WorkflowStatus


@dataclass(frozen=True)
class Line:
    """An order on the page."""

    order: Any
    status: str
    """The status of the workflow."""
    step: str
    """The step that was started last."""
    waits_for: list[str]
    """The names of the awaited events."""
    errors: dict[str, int]
    """The error messages of its steps without their traceback, with their counts."""
    is_paid: bool

    @property
    def state(self) -> str:
        """The status of the workflow, or Waiting if it waits for an event."""
        return "Waiting" if self.waits_for else self.status

    @property
    def moves(self) -> bool:
        """Whether the workflow is about to continue without user action."""
        return self.status == WorkflowStatus.RUNNABLE and (self.is_paid or not self.waits_for)
