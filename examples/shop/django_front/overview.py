"""The lines of the order page: the shop's tables and the store's in one query."""

from examples.shop.django_front.models import Order
from examples.shop.overview import Line

NEWEST = """
SELECT shop_order.*, workflow.status AS workflow_status, pointer.step, pointer.waits_for, error.messages
  FROM django_front_order AS shop_order
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


def newest_orders(limit: int = 50) -> list[Line]:
    """The newest orders with their workflows, loaded with three queries."""
    return [
        Line(
            order,
            order.workflow_status,
            (order.step or "").replace("_", " "),
            order.waits_for or [],
            order.messages or {},
            is_paid=bool(order.payments.all()),
        )
        for order in Order.objects.raw(NEWEST, [limit]).prefetch_related("product", "payments")
    ]
