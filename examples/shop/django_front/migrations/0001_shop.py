"""Create the tables for products, orders and payments, with sample products."""

from typing import Any

from django.db import migrations, models
from django.db.models.functions import Now

PRODUCTS = [("lamp", "Desk lamp", 100), ("mug", "Mug", 1000), ("vase", "Vase", 3)]


def add_products(apps: Any, _: object) -> None:
    """Insert three products."""
    product = apps.get_model("django_front", "Product")
    product.objects.bulk_create(product(sku=sku, title=title, stock=stock) for sku, title, stock in PRODUCTS)


class Migration(migrations.Migration):
    """The initial migration."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            "Product",
            fields=[
                ("sku", models.TextField(primary_key=True, serialize=False)),
                ("title", models.TextField()),
                ("stock", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            "Order",
            fields=[
                ("number", models.AutoField(primary_key=True, serialize=False)),
                ("workflow_id", models.TextField(unique=True)),
                ("product", models.ForeignKey("django_front.product", models.PROTECT)),
                ("quantity", models.IntegerField()),
                ("placed_at", models.DateTimeField(db_default=Now())),
                ("shipped_at", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(quantity__gt=0), name="order_quantity_check")]
            },
        ),
        migrations.CreateModel(
            "Payment",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("order", models.ForeignKey("django_front.order", models.CASCADE, related_name="payments")),
            ],
        ),
        migrations.RunPython(add_products, migrations.RunPython.noop),
    )
