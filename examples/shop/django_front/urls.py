"""URL patterns of the views."""

from django.urls import path

from examples.shop.django_front import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("orders", views.place_order, name="place_order"),
    path("orders/<int:number>/pay", views.pay, name="pay"),
    path("payments", views.payment_webhook, name="payment_webhook"),
]
