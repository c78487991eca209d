"""Create the tables for products, orders and payments, with sample products."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the shop's tables and insert three products."""
    products = op.create_table(
        "products",
        sa.Column("sku", sa.String, primary_key=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("stock", sa.Integer, nullable=False),
        sa.CheckConstraint("stock >= 0", name="products_stock_check"),
    )
    op.create_table(
        "orders",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("workflow_id", sa.String, nullable=False, unique=True),
        sa.Column("sku", sa.String, sa.ForeignKey("products.sku"), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("shipped_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("quantity > 0", name="orders_quantity_check"),
    )
    op.create_table(
        "payments",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("order_number", sa.Integer, sa.ForeignKey("orders.number"), nullable=False),
    )
    op.bulk_insert(
        products,
        [
            {"sku": "lamp", "title": "Desk lamp", "stock": 100},
            {"sku": "mug", "title": "Mug", "stock": 1000},
            {"sku": "vase", "title": "Vase", "stock": 3},
        ],
    )


def downgrade() -> None:
    """Drop the shop's tables."""
    for table in ("payments", "orders", "products"):
        op.drop_table(table)
