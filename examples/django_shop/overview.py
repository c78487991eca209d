"""The data of the order page: status, current step, awaited events and errors of each workflow."""

from dataclasses import dataclass

from examples.django_shop.models import Order
from wfe_postgres import WorkflowStatus

NEWEST = """
SELECT shop_order.*, workflow.status AS workflow_status, pointer.step, pointer.waits_for, error.messages
  FROM django_shop_order AS shop_order
  JOIN wfc.workflows AS workflow ON workflow.id = shop_order.workflow_id
 CROSS JOIN LATERAL (
    SELECT (array_agg(coalesce('await ' || event_name, step_name) ORDER BY position DESC))[1] AS step,
           array_agg(event_name) FILTER (WHERE status = 'WaitingForEvent') AS waits_for
      FROM wfc.execution_pointers WHERE workflow_id = workflow.id) AS pointer
 CROSS JOIN LATERAL (
    SELECT json_object_agg(message, times) AS messages
      FROM (SELECT split_part(message, E'\\n', 1) AS message, count(*) AS times FROM wfc.execution_errors
             WHERE workflow_id = workflow.id GROUP BY 1) AS counted) AS error
 ORDER BY shop_order.number DESC LIMIT %s
"""
"""Joins the shop's tables with the store's tables."""


@dataclass(frozen=True)
class Line:
    """An order on the page."""

    order: Order
    status: str
    step: str
    """The step that was started last."""
    waits_for: list[str]
    """The names of the awaited events."""
    errors: dict[str, int]
    """The error messages of its steps without their traceback, with their counts."""

    @property
    def state(self) -> str:
        """The status of the workflow, or Waiting if it waits for an event."""
        return "Waiting" if self.waits_for else self.status

    @property
    def moves(self) -> bool:
        """Whether the workflow is about to continue without user action."""
        paid_for = not self.waits_for or bool(self.order.payments.all())
        return self.status == WorkflowStatus.RUNNABLE and paid_for


def newest_orders(limit: int = 50) -> list[Line]:
    """The newest orders with their workflows, loaded with three queries."""
    orders = Order.objects.raw(NEWEST, [limit]).prefetch_related("product", "payments")
    return [
        Line(it, it.workflow_status, (it.step or "").replace("_", " "), it.waits_for or [], it.messages or {})
        for it in orders
    ]
