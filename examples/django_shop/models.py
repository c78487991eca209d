"""The shop's own tables. They lie in `public`, under Django's own migrations."""

from django.db import models
from django.db.models.functions import Now


class Product(models.Model):
    """What can be ordered."""

    sku = models.TextField(primary_key=True)
    title = models.TextField()
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """What somebody has ordered. How far it has come is told by its workflow."""

    number = models.AutoField(primary_key=True)
    workflow_id = models.TextField(unique=True)
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.IntegerField()
    placed_at = models.DateTimeField(db_default=Now())
    shipped_at = models.DateTimeField(null=True)

    class Meta:
        """An order of nothing is none."""

        constraints = (models.CheckConstraint(condition=models.Q(quantity__gt=0), name="order_quantity_check"),)


class Payment(models.Model):
    """What the payment provider has told us, under the id that it gave the payment."""

    id = models.TextField(primary_key=True)
    order = models.ForeignKey(Order, models.CASCADE, related_name="payments")
