"""The shop's tables, in the schema `public` and managed by the shop's Alembic migrations."""

from datetime import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CheckConstraint, DateTime, ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from wfe_postgres.orm import WorkflowRow


class Base(DeclarativeBase):
    """The declarative base of the shop."""


db = SQLAlchemy(model_class=Base)


class Product(Base):
    """A product in the shop."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock >= 0", name="products_stock_check"),)

    sku: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    stock: Mapped[int]


class Order(Base):
    """An order. Its progress is stored in its workflow."""

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
    """`None` after the workflow was purged."""


class Payment(Base):
    """A payment, with the id that the payment provider assigned."""

    __tablename__ = "payments"

    id: Mapped[str] = mapped_column(primary_key=True)
    order_number: Mapped[int] = mapped_column(ForeignKey("orders.number"))
