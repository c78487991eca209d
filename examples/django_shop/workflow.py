"""The order workflow and its host: reserve the stock, await the payment, ship.

Each step writes to the shop's tables in the transaction that saves the step. Therefore the stock is reduced exactly
once, even if a host dies during a step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F
from django.utils import timezone

from examples.django_shop.models import Order, Product
from wfe_postgres import Event, PersistenceProvider, PostgresPersistenceProvider
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowHost

wfe = PostgresPersistenceProvider(settings.STORE_URL)
"""Uses its own connection pool; connections are opened on demand."""

PAYMENT = "payment"
"""The name of the payment event; its key is the id of the order's workflow."""


class OutOfStockError(Exception):
    """Not enough in stock. The step is retried twice, then the workflow is suspended."""


def reserve_stock(context: StepContext) -> None:
    """Reduces the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = Product.objects.filter(sku=sku, stock__gte=quantity)
    if not enough.update(stock=F("stock") - quantity):
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")


def take_payment(context: StepContext, event: Event) -> None:
    """Notes which payment it was."""
    context.data["payment"] = event.event_data["payment"]


def ship(context: StepContext) -> None:
    """Marks the order as shipped; the last step."""
    Order.objects.filter(workflow_id=context.workflow.id).update(shipped_at=timezone.now())


ORDER = (
    WorkflowBuilder("order", on_error=Retry(interval=0.2, max_retries=2))
    .start_with(reserve_stock)
    .wait_for(PAYMENT, key=lambda context: context.workflow.id, into=take_payment)
    .then(ship)
    .build()
)


@contextmanager
def step_transaction() -> Iterator[tuple[PersistenceProvider, None]]:
    """One transaction for the rows of a step and the save of its workflow."""
    close_old_connections()  # as Django does between requests
    with transaction.atomic():
        yield wfe.using(connection.connection), None


host = WorkflowHost(wfe, [ORDER], transaction=step_transaction, lease=5, poll_interval=0.2)
"""Run by `python -m django work`. The views start workflows and publish events by it."""
