"""The shop's own tables. They lie in `public`, under the shop's own history of migrations."""

from datetime import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CheckConstraint, DateTime, ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from wfe_postgres.orm import WorkflowRow


class Base(DeclarativeBase):
    """What the shop maps."""


db = SQLAlchemy(model_class=Base)


class Product(Base):
    """What can be ordered."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock >= 0", name="products_stock_check"),)

    sku: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    stock: Mapped[int]


class Order(Base):
    """What somebody has ordered. How far it has come is told by its workflow."""

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("quantity > 0", name="orders_quantity_check"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[str] = mapped_column(unique=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"))
    quantity: Mapped[int]
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    shipped_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    product: Mapped[Product] = relationship()
    payments: Mapped[list["Payment"]] = relationship()
    workflow: Mapped[WorkflowRow | None] = relationship(
        WorkflowRow, primaryjoin=lambda: WorkflowRow.id == foreign(Order.workflow_id), viewonly=True
    )
    """`None` once it has been purged: the order is still the shop's."""


class Payment(Base):
    """What the payment provider has told us, under the id that it gave the payment."""

    __tablename__ = "payments"

    id: Mapped[str] = mapped_column(primary_key=True)
    order_number: Mapped[int] = mapped_column(ForeignKey("orders.number"))
