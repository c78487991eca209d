"""The shop: placing an order, the payment provider's webhook, and a page that lists the orders.

What belongs together is committed together: the order with its workflow, the payment with its event.
"""

import os
import signal
import threading
from pathlib import Path
from uuid import uuid4

from flask import Flask, redirect, render_template, request, url_for
from flask_migrate import Migrate
from sqlalchemy import make_url, select
from sqlalchemy.exc import DataError, IntegrityError
from werkzeug.wrappers import Response

from examples.flask_shop.models import Order, Payment, Product, db
from examples.flask_shop.overview import newest_orders
from examples.flask_shop.workflow import PAYMENT, ShopHost, new_order
from wfe_postgres import Event, PostgresPersistenceProvider
from wfe_postgres.autogenerate import exclude_store_tables

app = Flask(__name__)
url = make_url(os.environ["WFE_DATABASE_URL"])
app.config["SQLALCHEMY_DATABASE_URI"] = url.set(drivername="postgresql+psycopg")
db.init_app(app)
Migrate(app, db, directory=Path(__file__).with_name("migrations"), include_schemas=True, **exclude_store_tables())

with app.app_context():
    wfe = PostgresPersistenceProvider.from_engine(db.engine)
    # A store that is up to date is only looked at, so the application's role needs no right to change it. Under
    # `gunicorn --preload` this is done before the fork; the workers get connections of their own.
    wfe.ensure_store_exists()


@app.get("/")
def orders(refusal: str = "") -> str:
    """The orders, and where their workflows stand."""
    products = db.session.scalars(select(Product).order_by(Product.title)).all()
    return render_template("orders.html", lines=newest_orders(), products=products, refusal=refusal)


@app.post("/orders")
def place_order() -> Response | tuple[str, int]:
    """Commit the order and its workflow, or neither."""
    sku, quantity = request.form["sku"], request.form.get("quantity", type=int)
    workflow = new_order(sku, quantity or 0)
    wfe.using(db.session).create_new_workflow(workflow)
    db.session.add(Order(workflow_id=workflow.id, sku=sku, quantity=quantity or 0))
    try:
        db.session.commit()
    except (DataError, IntegrityError):
        db.session.rollback()  # and with the order goes its workflow, which was stored before
        return orders("Please order one piece at least, of something that we sell."), 422
    return redirect(url_for("orders"), 303)


@app.post("/payments")
def payment_webhook() -> tuple[str, int]:
    """What the payment provider calls, as often as it likes: `{"payment": "its id", "order": 1}`."""
    told = request.get_json()
    order = db.get_or_404(Order, told["order"])
    record_payment(str(told["payment"]), order)
    return "", 204


@app.post("/orders/<int:number>/pay")
def pay(number: int) -> Response:
    """Stands in for the payment provider's own page, so that the example needs none."""
    record_payment(str(uuid4()), db.get_or_404(Order, number))
    return redirect(url_for("orders"), 303)


def record_payment(id: str, order: Order) -> None:
    """Commit the payment and the event that tells the workflow of it; nothing if it was recorded before."""
    db.session.add(Payment(id=id, order_number=order.number))
    try:
        wfe.using(db.session).create_event(Event(PAYMENT, order.workflow_id, {"payment": id}))
        db.session.commit()
    except IntegrityError:  # the flush of the payment, which goes before the event, found it there
        db.session.rollback()


@app.cli.command("work")
def work() -> None:
    """Run the orders' workflows until SIGTERM or SIGINT. Any number of these may run at once."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ShopHost(wfe).run(stop, interval=0.2)
