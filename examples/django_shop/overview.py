"""What the page says of an order: where its workflow stands, what it waits for, what went wrong."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from examples.django_shop.models import Order
from examples.django_shop.store import joined
from wfe_postgres import PointerStatus, WorkflowInstance, WorkflowStatus

WAITING = PointerStatus.WAITING_FOR_EVENT


@dataclass(frozen=True)
class Line:
    """One order on the page."""

    order: Order
    workflow: WorkflowInstance
    errors: dict[str, int]
    """What its steps raised, and how often."""

    @property
    def state(self) -> str:
        """The workflow's status, or Waiting where it is nobody's turn but an event's."""
        return "Waiting" if self.waits_for else str(self.workflow.status)

    @property
    def step(self) -> str:
        """Where it stands: the step that it began last."""
        return (self.workflow.execution_pointers[-1].step_name or "").replace("_", " ")

    @property
    def waits_for(self) -> list[str]:
        """The events that it waits for."""
        return [str(it.event_name) for it in self.workflow.execution_pointers if it.status == WAITING]

    @property
    def moves(self) -> bool:
        """Whether it will soon stand elsewhere, without anybody's doing."""
        paid_for = not self.waits_for or bool(self.order.payments.all())
        return self.workflow.status == WorkflowStatus.RUNNABLE and paid_for


def newest_orders(limit: int = 50) -> list[Line]:
    """The newest orders with their workflows and errors, in four queries, however many they are."""
    newest = Order.objects.select_related("product").prefetch_related("payments")
    orders = list(newest.order_by("-number")[:limit])
    workflows = {it.id: it for it in joined().get_workflow_instances([order.workflow_id for order in orders])}
    errors = defaultdict[str, Counter[str]](Counter)
    for error in joined().get_execution_errors(since=orders[-1].placed_at, limit=1000) if orders else []:
        errors[error.workflow_id][error.message] += 1
    # A finished order's workflow may have been purged, and the order is still the shop's.
    known = [order for order in orders if order.workflow_id in workflows]
    return [Line(order, workflows[order.workflow_id], dict(errors[order.workflow_id])) for order in known]
