"""The shop's table."""

from django.db import models


class Order(models.Model):
    """An order."""

    number = models.TextField(primary_key=True)
    steps = models.IntegerField(default=0)
