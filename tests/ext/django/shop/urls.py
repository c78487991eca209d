"""The views."""

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.ext.django.shop.models import Order
from wfe_postgres.ext.django import using


def place(request: HttpRequest) -> HttpResponse:
    """Create an order and its workflow, and fail where it is asked for."""
    with transaction.atomic():
        return place_without(request)


def place_without(request: HttpRequest) -> HttpResponse:
    """The same, without a transaction of its own: for ATOMIC_REQUESTS."""
    number = request.GET["number"]
    id = using().start_workflow("order", {"number": number}, reference=number)
    Order.objects.create(number=number)
    if "fail" in request.GET:
        raise RuntimeError
    return HttpResponse(id)


urlpatterns = [path("admin/", admin.site.urls), path("place", place), path("place-without", place_without)]
