"""The shop: placing an order, the payment provider's webhook, and a page that lists the orders.

What belongs together is committed together: the order with its workflow, the payment with its event. Each is one
`transaction.atomic()`, and whatever raises in there takes both away.
"""

import json
from uuid import uuid4

from django.db import DataError, IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from examples.django_shop.models import Order, Payment, Product
from examples.django_shop.overview import newest_orders
from examples.django_shop.store import joined
from examples.django_shop.workflow import PAYMENT, new_order
from wfe_postgres import Event

REFUSAL = "Please order one piece at least, of something that we sell."


@require_GET
def orders(request: HttpRequest) -> HttpResponse:
    """The orders, and where their workflows stand."""
    return page(request)


def page(request: HttpRequest, refusal: str = "", status: int = 200) -> HttpResponse:
    """The page itself, with what was refused."""
    lines, products = newest_orders(), Product.objects.order_by("title")
    moves = any(line.moves for line in lines)
    shown = {"lines": lines, "moves": moves, "products": products, "refusal": refusal}
    return render(request, "orders.html", shown, status=status)


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Commit the order and its workflow, or neither."""
    sku = request.POST["sku"]
    try:
        quantity = int(request.POST["quantity"])
        with transaction.atomic():
            workflow = new_order(sku, quantity)
            joined().create_new_workflow(workflow)
            Order.objects.create(workflow_id=workflow.id, product_id=sku, quantity=quantity)
    except (ValueError, DataError, IntegrityError):  # an unknown product is noticed at the commit only
        return page(request, REFUSAL, status=422)
    return redirect("orders")


@csrf_exempt
@require_POST
def payment_webhook(request: HttpRequest) -> HttpResponse:
    """What the payment provider calls, as often as it likes: `{"payment": "its id", "order": 1}`."""
    told = json.loads(request.body)
    record_payment(str(told["payment"]), get_object_or_404(Order, number=told["order"]))
    return HttpResponse(status=204)


@require_POST
def pay(request: HttpRequest, number: int) -> HttpResponse:
    """Stands in for the payment provider's own page, so that the example needs none."""
    record_payment(str(uuid4()), get_object_or_404(Order, number=number))
    return redirect("orders")


def record_payment(id: str, order: Order) -> None:
    """Commit the payment and the event that tells the workflow of it; nothing if it was recorded before."""
    try:
        with transaction.atomic():
            Payment.objects.create(id=id, order=order)
            joined().create_event(Event(PAYMENT, order.workflow_id, {"payment": id}))
    except IntegrityError:
        pass
