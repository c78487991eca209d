"""The steps that write the shop's tables; the worker runs them inside `transaction.atomic()`."""

from django.db.models import F
from django.utils import timezone

from examples.shop.django_front.models import Order, Product
from examples.shop.workflow import OutOfStockError, order
from wfe_postgres.host import StepContext


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
