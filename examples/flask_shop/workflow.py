"""The order workflow and its host: reserve the stock, await the payment, ship.

Each step writes to the shop's tables in the transaction that saves the step. Therefore the stock is reduced exactly
once, even if a host dies during a step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from examples.flask_shop.models import Order, Product, db
from wfe_postgres import ExecutionPointer, PersistenceProvider, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.demo.definitions import Context, Definition, Next, Outcome, WaitFor
from wfe_postgres.demo.host import Host

PAYMENT = "payment"
"""The name of the payment event; its key is the id of the order's workflow."""

LEASE = 5.0
"""Seconds until the lease of a host expires; must be longer than any step takes."""


class OutOfStockError(Exception):
    """Not enough in stock. The step is retried a few times, then the workflow is suspended."""


def reserve_stock(context: Context) -> Outcome:
    """Reduces the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = update(Product).where(Product.sku == sku, Product.stock >= quantity)
    taken = context.resources.execute(enough.values(stock=Product.stock - quantity).returning(Product.sku))
    if taken.first() is None:
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")
    return Next()


def await_payment(context: Context) -> Outcome:
    """Waits for the payment event, which may already have been published."""
    if not context.pointer.event_published:
        return WaitFor(PAYMENT, context.workflow.id)
    context.data["payment"] = context.pointer.event_data["payment"]
    return Next()


def ship(context: Context) -> Outcome:
    """Marks the order as shipped; the last step."""
    order = update(Order).where(Order.workflow_id == context.workflow.id)
    context.resources.execute(order.values(shipped_at=func.now()))
    return Next()


ORDER = Definition("order", 1, steps=(reserve_stock, await_payment, ship))


def new_order(sku: str, quantity: int) -> WorkflowInstance:
    """Create a workflow at its first step, without storing it."""
    workflow = WorkflowInstance(ORDER.id, ORDER.version, {"sku": sku, "quantity": quantity})
    workflow.execution_pointers.append(ORDER.pointer(0))
    return workflow


class ShopHost(Host):
    """A host whose steps receive a SQLAlchemy session."""

    def __init__(self, provider: PostgresPersistenceProvider) -> None:
        super().__init__(provider, [ORDER], lease=LEASE, retry_delay=0.2, max_retries=2)
        self._postgres = provider

    @contextmanager
    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> Iterator[tuple[PersistenceProvider, Session]]:
        """One transaction for the rows of the step and the save of its workflow."""
        with Session(db.engine) as session, session.begin():
            yield self._postgres.using(session), session
