"""The steps that write the shop's tables. `db.session` is the session of the step's transaction."""

from sqlalchemy import func, update

from examples.shop.flask_front.models import Order, Product, db
from examples.shop.workflow import OutOfStockError, order
from wfe_postgres.host import StepContext


def reserve_stock(context: StepContext) -> None:
    """Reduces the stock."""
    sku, quantity = context.data["sku"], context.data["quantity"]
    enough = update(Product).where(Product.sku == sku, Product.stock >= quantity)
    taken = db.session.execute(enough.values(stock=Product.stock - quantity).returning(Product.sku))
    if taken.first() is None:
        raise OutOfStockError(f"fewer than {quantity} of {sku} in stock")


def ship(context: StepContext) -> None:
    """Marks the order as shipped; the last step."""
    shipped = update(Order).where(Order.workflow_id == context.workflow.id)
    db.session.execute(shipped.values(shipped_at=func.now()))


ORDER = order(reserve_stock, ship)
