"""The data of the order page: status, current step, awaited events and errors of each workflow."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import contains_eager, joinedload, selectinload

from examples.flask_shop.models import Order, db
from wfe_postgres import PointerStatus, WorkflowStatus
from wfe_postgres.orm import WorkflowRow

WAITING = PointerStatus.WAITING_FOR_EVENT


@dataclass(frozen=True)
class Line:
    """An order on the page."""

    order: Order
    workflow: WorkflowRow

    @property
    def state(self) -> str:
        """The status of the workflow, or Waiting if it waits for an event."""
        return "Waiting" if self.waits_for else self.workflow.status

    @property
    def step(self) -> str:
        """The step that was started last."""
        last = self.workflow.pointers[-1]
        return f"await {last.event_name}" if last.event_name else (last.step_name or "").replace("_", " ")

    @property
    def waits_for(self) -> list[str]:
        """The names of the awaited events."""
        return [str(it.event_name) for it in self.workflow.pointers if it.status == WAITING]

    @property
    def errors(self) -> dict[str, int]:
        """The error messages of its steps without their traceback, with their counts."""
        return Counter(it.message.splitlines()[0] for it in self.workflow.errors)

    @property
    def moves(self) -> bool:
        """Whether the workflow is about to continue without user action."""
        paid_for = not self.waits_for or bool(self.order.payments)
        return self.workflow.status == WorkflowStatus.RUNNABLE and paid_for


def newest_orders(limit: int = 50) -> list[Line]:
    """The newest orders with their workflows, loaded with four queries."""
    newest = select(Order, WorkflowRow).join(Order.workflow).order_by(Order.number.desc()).limit(limit)
    steps = contains_eager(Order.workflow).options(selectinload(WorkflowRow.pointers), selectinload(WorkflowRow.errors))
    rows = db.session.execute(newest.options(joinedload(Order.product), selectinload(Order.payments), steps))
    return [Line(order, workflow) for order, workflow in rows]
