"""The shop's tables, in the schema `public` and managed by Django migrations."""

from django.db import models
from django.db.models.functions import Now


class Product(models.Model):
    """A product in the shop."""

    sku = models.TextField(primary_key=True)
    title = models.TextField()
    stock = models.PositiveIntegerField()


class Order(models.Model):
    """An order. Its progress is stored in its workflow."""

    number = models.AutoField(primary_key=True)
    workflow_id = models.TextField(unique=True)
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.IntegerField()
    placed_at = models.DateTimeField(db_default=Now())
    shipped_at = models.DateTimeField(null=True)

    class Meta:
        """The quantity must be positive."""

        constraints = (models.CheckConstraint(condition=models.Q(quantity__gt=0), name="order_quantity_check"),)


class Payment(models.Model):
    """A payment, with the id that the payment provider assigned."""

    id = models.TextField(primary_key=True)
    order = models.ForeignKey(Order, models.CASCADE, related_name="payments")
