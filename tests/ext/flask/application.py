"""An application: a shop whose orders are workflows."""

import os
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url, select
from sqlalchemy.orm import Mapped, mapped_column

from wfe_postgres.ext.flask import WFE, HostOptions
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder

AT_ONCE = Retry(0, max_retries=1)


def psycopg_url(url: str) -> str:
    """The URL for SQLALCHEMY_DATABASE_URI."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@dataclass
class Shop:
    """A `SQLAlchemy` with a model, a `WFE`, and what makes applications of them."""

    bind_key: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.db = SQLAlchemy()
        self.wfe = WFE(db=self.db, bind_key=self.bind_key, **self.options)

        class Order(self.db.Model):  # type: ignore[name-defined,misc]
            """A row of the application's own."""

            __bind_key__ = self.bind_key
            number: Mapped[str] = mapped_column(primary_key=True)
            step: Mapped[str] = mapped_column(primary_key=True, default="placed")

        self.Order = Order
        self.wfe.register(WorkflowBuilder("order", on_error=AT_ONCE).start_with(self.ship).build())

    def make(self, url: str, host_options: HostOptions | None = None, **config: Any) -> Flask:
        """An application on the database; its table is created, the store is not."""
        app = Flask("shop")
        app.config |= {"SQLALCHEMY_DATABASE_URI": psycopg_url(url), **config}
        self.db.init_app(app)
        self.wfe.init_app(app, **(host_options or {}))
        app.add_url_rule("/orders/<number>", view_func=self.place, methods=["POST"])
        with app.app_context():
            self.db.create_all()
        return app

    def ship(self, context: StepContext) -> None:
        """The step: it writes by `db.session`."""
        assert current_app.name == "shop"
        self.db.session.add(self.Order(number=context.data["number"], step="shipped"))

    def place(self, number: str) -> dict[str, str]:
        """The view: the workflow comes first, and an order that exists already is refused by the commit."""
        id = self.wfe.using_session().start_workflow("order", {"number": number}, reference=number)
        self.db.session.add(self.Order(number=number))
        self.db.session.commit()
        return {"workflow": id}

    def orders(self) -> list[tuple[str, str]]:
        """What is stored."""
        rows = self.db.session.execute(select(self.Order.number, self.Order.step).order_by(self.Order.step))
        return [(number, step) for number, step in rows]


def create_app() -> Flask:
    """The application factory for `flask --app`."""
    shop = Shop(options={"poll_interval": 0.05})
    return shop.make(os.environ["SHOP_URL"])
