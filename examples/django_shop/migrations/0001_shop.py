"""Products, orders and payments, and something to sell."""

from typing import Any

from django.db import migrations, models
from django.db.models.functions import Now

SHELF = [("lamp", "Desk lamp", 100), ("mug", "Mug", 1000), ("vase", "Vase", 3)]


def fill_shelf(apps: Any, _: object) -> None:
    """Put three products on the shelf."""
    product = apps.get_model("django_shop", "Product")
    product.objects.bulk_create(product(sku=sku, title=title, stock=stock) for sku, title, stock in SHELF)


class Migration(migrations.Migration):
    """The whole shop."""

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
                ("product", models.ForeignKey("django_shop.product", models.PROTECT)),
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
                ("order", models.ForeignKey("django_shop.order", models.CASCADE, related_name="payments")),
            ],
        ),
        migrations.RunPython(fill_shelf, migrations.RunPython.noop),
    )
