"""The order workflow: reserve the stock, await the payment, ship.

Each step writes to the shop's tables in the transaction that saves the step. Therefore the stock is reduced exactly
once, even if a host dies during a step.
"""

from sqlalchemy import func, update

from examples.flask_shop.models import Order, Product
from wfe_postgres import Event
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder

PAYMENT = "payment"
"""The name of the payment event; its key is the id of the order's workflow."""


class OutOfStockError(Exception):
    """Not enough in stock. The step is retried twice, then the workflow is suspended."""


def reserve_stock(context: StepContext) -> None:
    """Reduces the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = update(Product).where(Product.sku == sku, Product.stock >= quantity)
    taken = context.session.execute(enough.values(stock=Product.stock - quantity).returning(Product.sku))
    if taken.first() is None:
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")


def take_payment(context: StepContext, event: Event) -> None:
    """Notes which payment it was."""
    context.data["payment"] = event.event_data["payment"]


def ship(context: StepContext) -> None:
    """Marks the order as shipped; the last step."""
    order = update(Order).where(Order.workflow_id == context.workflow.id)
    context.session.execute(order.values(shipped_at=func.now()))


ORDER = (
    WorkflowBuilder("order", on_error=Retry(interval=0.2, max_retries=2))
    .start_with(reserve_stock)
    .wait_for(PAYMENT, key=lambda context: context.workflow.id, into=take_payment)
    .then(ship)
    .build()
)
