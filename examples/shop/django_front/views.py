"""Views to place an order and to list the orders, and the webhook of the payment provider.

An order and its workflow are committed in one transaction, as are a payment and its event. Both use
`transaction.atomic()`, and an exception rolls both writes back.
"""

import json
from uuid import uuid4

from django.db import DataError, IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from examples.shop.django_front.models import Order, Payment, Product
from examples.shop.django_front.overview import newest_orders
from examples.shop.django_front.workflow import ORDER
from examples.shop.workflow import PAYMENT
from wfe_postgres.ext.django import using

INVALID_ORDER = "Please choose a product and a quantity of at least 1."


@require_GET
def orders(request: HttpRequest) -> HttpResponse:
    """List the orders with the status of their workflows."""
    return page(request)


def page(request: HttpRequest, refusal: str = "", status: int = 200) -> HttpResponse:
    """Render the page, optionally with an error message."""
    shown = {"lines": newest_orders(), "products": Product.objects.order_by("title"), "refusal": refusal}
    return render(request, "orders.html", shown, status=status)


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Create the order and its workflow in one transaction."""
    sku = request.POST["sku"]
    try:
        quantity = int(request.POST["quantity"])
        with transaction.atomic():
            id = using().start_workflow(ORDER.id, {"sku": sku, "quantity": quantity})
            Order.objects.create(workflow_id=id, product_id=sku, quantity=quantity)
    except (ValueError, DataError, IntegrityError):  # the foreign key of an unknown product is checked at the commit
        return page(request, INVALID_ORDER, status=422)
    return redirect("orders")


@csrf_exempt
@require_POST
def payment_webhook(request: HttpRequest) -> HttpResponse:
    """Called by the payment provider, possibly repeatedly, with `{"payment": "its id", "order": 1}`."""
    body = json.loads(request.body)
    record_payment(str(body["payment"]), get_object_or_404(Order, number=body["order"]))
    return HttpResponse(status=204)


@require_POST
def pay(request: HttpRequest, number: int) -> HttpResponse:
    """Simulate a payment, in place of the payment provider's page."""
    record_payment(str(uuid4()), get_object_or_404(Order, number=number))
    return redirect("orders")


def record_payment(id: str, order: Order) -> None:
    """Store the payment and its event in one transaction; does nothing if the payment is already stored."""
    try:
        with transaction.atomic():
            Payment.objects.create(id=id, order=order)
            using().publish_event(PAYMENT, order.workflow_id, {"payment": id})
    except IntegrityError:
        pass
