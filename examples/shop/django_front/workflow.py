"""The steps that write the shop's tables, and the host that runs them inside `transaction.atomic()`."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F
from django.utils import timezone

from examples.shop.django_front.models import Order, Product
from examples.shop.workflow import OutOfStockError, order
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowHost

wfe = PostgresPersistenceProvider(settings.STORE_URL)
"""Uses its own connection pool; connections are opened on demand."""


def reserve_stock(context: StepContext) -> None:
    """Reduces the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = Product.objects.filter(sku=sku, stock__gte=quantity)
    if not enough.update(stock=F("stock") - quantity):
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")


def ship(context: StepContext) -> None:
    """Marks the order as shipped; the last step."""
    Order.objects.filter(workflow_id=context.workflow.id).update(shipped_at=timezone.now())


ORDER = order(reserve_stock, ship)


@contextmanager
def step_transaction() -> Iterator[tuple[PersistenceProvider, None]]:
    """One transaction for the rows of a step and the save of its workflow."""
    close_old_connections()  # as Django does between requests
    with transaction.atomic():
        yield wfe.using(connection.connection), None


host = WorkflowHost(wfe, [ORDER], transaction=step_transaction, lease=5, poll_interval=0.2)
"""Run by `python -m django work`. The views start workflows and publish events by it."""
