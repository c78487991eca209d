"""The workflow of an order, and the host that runs it: reserve the stock, await the payment, ship.

Each step writes the shop's tables in the transaction that saves the step. However often a host dies half-way, an
order takes its goods from the stock once.
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
"""The event that an order waits for; its key is the id of the order's workflow."""

LEASE = 5.0
"""Seconds after which another host takes over the step of one that died; no step takes as long."""


class OutOfStockError(Exception):
    """There is not enough in stock: the step is tried again a few times, then the workflow is suspended."""


def reserve_stock(context: Context) -> Outcome:
    """Takes the goods from the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = update(Product).where(Product.sku == sku, Product.stock >= quantity)
    taken = context.resources.execute(enough.values(stock=Product.stock - quantity).returning(Product.sku))
    if taken.first() is None:
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")
    return Next()


def await_payment(context: Context) -> Outcome:
    """Waits for the event, which may have come before."""
    if not context.pointer.event_published:
        return WaitFor(PAYMENT, context.workflow.id)
    context.data["payment"] = context.pointer.event_data["payment"]
    return Next()


def ship(context: Context) -> Outcome:
    """The last step."""
    order = update(Order).where(Order.workflow_id == context.workflow.id)
    context.resources.execute(order.values(shipped_at=func.now()))
    return Next()


ORDER = Definition("order", 1, steps=(reserve_stock, await_payment, ship))


def new_order(sku: str, quantity: int) -> WorkflowInstance:
    """A workflow at its first step, not stored yet."""
    workflow = WorkflowInstance(ORDER.id, ORDER.version, {"sku": sku, "quantity": quantity})
    workflow.execution_pointers.append(ORDER.pointer(0))
    return workflow


class ShopHost(Host):
    """A host whose steps are given a session of the shop's."""

    def __init__(self, provider: PostgresPersistenceProvider) -> None:
        super().__init__(provider, [ORDER], lease=LEASE, retry_delay=0.2, max_retries=2)
        self._postgres = provider

    @contextmanager
    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> Iterator[tuple[PersistenceProvider, Session]]:
        """One transaction for the step's rows and the save of its workflow."""
        with Session(db.engine) as session, session.begin():
            yield self._postgres.using(session), session
