"""The order workflow: reserve the stock, await the payment, ship.

Two of its steps write the shop's tables, and are in `workflow.py` of each front. They are in the transaction that saves
the step. Therefore the stock is reduced exactly once, even if a worker dies during a step.
"""

from collections.abc import Callable

from wfe_postgres import Event
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowDefinition

PAYMENT = "payment"
"""The name of the payment event; its key is the id of the order's workflow."""


class OutOfStockError(Exception):
    """Not enough in stock. The step is retried twice, then the workflow is suspended."""


def take_payment(context: StepContext, event: Event) -> None:
    """Notes which payment it was."""
    context.data["payment"] = event.event_data["payment"]


def order(reserve_stock: Callable[[StepContext], None], ship: Callable[[StepContext], None]) -> WorkflowDefinition:
    """The definition with the steps of a front."""
    return (
        WorkflowBuilder("order", on_error=Retry(interval=0.2, max_retries=2))
        .start_with(reserve_stock)
        .wait_for(PAYMENT, key=lambda context: context.workflow.id, into=take_payment)
        .then(ship)
        .build()
    )
