"""Views to place an order and to list the orders, and the webhook of the payment provider.

An order and its workflow are committed in one transaction, as are a payment and its event.
"""

import os
from pathlib import Path
from uuid import uuid4

from flask import Flask, redirect, render_template, request, url_for
from flask_migrate import Migrate
from sqlalchemy import make_url, select
from sqlalchemy.exc import DataError, IntegrityError
from werkzeug.wrappers import Response

from examples.shop.flask_front.models import Order, Payment, Product, db
from examples.shop.flask_front.overview import newest_orders
from examples.shop.flask_front.workflow import ORDER
from examples.shop.workflow import PAYMENT
from wfe_postgres.autogenerate import exclude_store_tables
from wfe_postgres.ext.flask import WFE

app = Flask(__name__, template_folder="../templates")
url = make_url(os.environ["WFE_DATABASE_URL"])
app.config["SQLALCHEMY_DATABASE_URI"] = url.set(drivername="postgresql+psycopg")
db.init_app(app)
Migrate(app, db, directory=Path(__file__).with_name("migrations"), include_schemas=True, **exclude_store_tables())
wfe = WFE(app, db, definitions=[ORDER], lease=5, poll_interval=0.2)


@app.get("/")
def orders(refusal: str = "") -> str:
    """List the orders with the status of their workflows."""
    products = db.session.scalars(select(Product).order_by(Product.title)).all()
    return render_template("orders.html", lines=newest_orders(), products=products, refusal=refusal)


@app.post("/orders")
def place_order() -> Response | tuple[str, int]:
    """Create the order and its workflow in one transaction."""
    sku, quantity = request.form["sku"], request.form.get("quantity", type=int)
    id = wfe.using_session().start_workflow(ORDER.id, {"sku": sku, "quantity": quantity or 0})
    db.session.add(Order(workflow_id=id, sku=sku, quantity=quantity or 0))
    try:
        db.session.commit()
    except (DataError, IntegrityError):
        db.session.rollback()  # also rolls back the workflow
        return orders("Please choose a product and a quantity of at least 1."), 422
    return redirect(url_for("orders"), 303)


@app.post("/payments")
def payment_webhook() -> tuple[str, int]:
    """Called by the payment provider, possibly repeatedly, with `{"payment": "its id", "order": 1}`."""
    body = request.get_json()
    order = db.get_or_404(Order, body["order"])
    record_payment(str(body["payment"]), order)
    return "", 204


@app.post("/orders/<int:number>/pay")
def pay(number: int) -> Response:
    """Simulate a payment, in place of the payment provider's page."""
    record_payment(str(uuid4()), db.get_or_404(Order, number))
    return redirect(url_for("orders"), 303)


def record_payment(id: str, order: Order) -> None:
    """Store the payment and its event in one transaction; does nothing if the payment is already stored."""
    db.session.add(Payment(id=id, order_number=order.number))
    try:
        wfe.using_session().publish_event(PAYMENT, order.workflow_id, {"payment": id})
        db.session.commit()
    except IntegrityError:  # raised by the flush of the payment, which precedes the event
        db.session.rollback()
