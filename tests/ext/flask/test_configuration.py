"""Binds, and configurations that are refused."""

from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from tests.conftest import Sql
from tests.ext.flask.application import Shop, psycopg_url
from tests.ext.flask.conftest import Run
from wfe_postgres.ext.flask import WFE
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder
from wfe_postgres.orm import WorkflowRow
from wfe_postgres.testing import ManualClock


@pytest.fixture
def bound(make_app: Run, database_url: str) -> tuple[Shop, Flask]:
    """An application whose store, and whose orders, are in the bind `work`; its default bind is SQLite."""
    shop = Shop(bind_key="work")
    binds = {"work": psycopg_url(database_url)}
    app = make_app(shop, database_url, SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS=binds)
    return shop, app


def test_store_in_a_bind_is_joined_by_db_session(bound: tuple[Shop, Flask]) -> None:
    shop, app = bound
    app.testing = True
    id = app.test_client().post("/orders/4711").get_json()["workflow"]
    with app.app_context():
        with pytest.raises(Exception, match="duplicate key"):
            shop.place("4711")
        shop.db.session.rollback()
        assert [it.id for it in shop.wfe.provider.find_workflows().items] == [id]
        assert shop.db.session.get_one(WorkflowRow, id).reference == "4711"


def test_step_of_a_store_in_a_bind_writes_into_the_bind(bound: tuple[Shop, Flask], sql: Sql) -> None:
    shop, app = bound
    app.test_client().post("/orders/4711")
    with app.app_context():
        shop.wfe.host.run_until_idle()
    assert sql("SELECT number, step FROM public.order ORDER BY step") == [("4711", "placed"), ("4711", "shipped")]
    assert sql("SELECT status FROM wfc.workflows") == [("Complete",)]


def test_session_that_is_given_its_bind_needs_no_application_context(bound: tuple[Shop, Flask]) -> None:
    shop, app = bound
    with app.app_context():
        engine = shop.db.engines["work"]
        session = shop.db.session.session_factory()
    with session:
        assert session.get_bind(mapper=WorkflowRow, bind=engine) is engine


def test_two_extensions_of_one_database_object_have_a_bind_each(
    make_app: Run, bound: tuple[Shop, Flask], empty_database_url: str
) -> None:
    shop, app = bound
    other_app, other = Flask("other"), WFE(bind_key="other", definitions=shop.wfe._definitions.values())
    urls = {"work": "sqlite://", "other": psycopg_url(empty_database_url)}
    other_app.config |= {"SQLALCHEMY_DATABASE_URI": "sqlite://", "SQLALCHEMY_BINDS": urls}
    shop.db.init_app(other_app)
    other.init_app(other_app, shop.db)
    with other_app.app_context():
        other.provider.ensure_store_exists()
        other.using_session().start_workflow("order", reference="other")
        shop.db.session.commit()
        assert len(other.provider.find_workflows().items) == 1
        shop.db.engines["other"].dispose()
    with app.app_context():
        assert shop.wfe.provider.find_workflows().items == []


@pytest.mark.parametrize(
    ("bind_key", "config", "message"),
    [
        ("work", {}, r"SQLALCHEMY_BINDS\['work'\] is not set"),
        (None, {"SQLALCHEMY_DATABASE_URI": None, "SQLALCHEMY_BINDS": {"a": "sqlite://"}}, "_URI is not set"),
        (None, {}, r"SQLALCHEMY_DATABASE_URI: the engine must be postgresql\+psycopg .* not sqlite"),
        ("work", {"SQLALCHEMY_BINDS": {"work": "sqlite://"}}, r"SQLALCHEMY_BINDS\['work'\]: the engine must be"),
    ],
)
def test_bind_without_a_database_for_the_store_is_refused(
    bind_key: str | None, config: dict[str, Any], message: str
) -> None:
    app, db = Flask("shop"), SQLAlchemy()
    app.config |= {"SQLALCHEMY_DATABASE_URI": "sqlite://", **config}
    db.init_app(app)
    wfe = WFE(app, db, bind_key=bind_key)
    with app.app_context():
        for use in (lambda: wfe.provider, lambda: wfe.host, wfe.using_session):
            with pytest.raises(ValueError, match=message):
                use()


def test_queue_wakes_workers_of_what_db_session_commits(make_app: Run, database_url: str, sql: Sql) -> None:
    make_app(Shop(options={"queue": True}), database_url).test_client().post("/orders/1")
    make_app(Shop(options={"queue": False}), database_url).test_client().post("/orders/2")
    assert sql("SELECT reference FROM wfc.work_queue JOIN wfc.workflows USING (id)") == [("1",)]


def application(uri: str = "sqlite://") -> tuple[Flask, SQLAlchemy]:
    """Without a `WFE`."""
    app, db = Flask("shop"), SQLAlchemy()
    app.config |= {"SQLALCHEMY_DATABASE_URI": uri}
    db.init_app(app)
    return app, db


def test_application_without_a_database_object_is_refused() -> None:
    with pytest.raises(TypeError, match=r"WFE\(app, db\)"):
        WFE(Flask("shop"))


def test_database_object_that_is_not_initialized_is_refused() -> None:
    with pytest.raises(RuntimeError, match="forget to call 'init_app'"):
        WFE(Flask("shop"), SQLAlchemy())


def test_second_extension_of_an_application_is_refused() -> None:
    app, db = application()
    WFE(app, db)
    with pytest.raises(RuntimeError, match="has a WFE already"):
        WFE(app, db)


def test_use_outside_an_application_context_is_refused() -> None:
    wfe = WFE(*application())
    with pytest.raises(RuntimeError, match="Working outside of application context"):
        wfe.using_session()


def test_use_in_another_application_is_refused() -> None:
    wfe, (app, db) = WFE(*application()), application()
    WFE(app, db)
    for other in (app, Flask("none")):
        with other.app_context(), pytest.raises(RuntimeError, match=r"init_app\(app, db\)"):
            wfe.using_session()


def test_options_that_the_host_would_refuse_are_refused() -> None:
    with pytest.raises(ValueError, match="two definitions"):
        WFE(definitions=[WorkflowBuilder("order").start_with(print).build() for _ in range(2)])
    with pytest.raises(ValueError, match="schema"):
        WFE(schema="")
    with pytest.raises(TypeError, match="unknown"):
        WFE(unknown=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown"):
        WFE().init_app(Flask("none"), SQLAlchemy(), unknown=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"build\(\)"):
        WFE(definitions=[WorkflowBuilder("order").start_with(print)])  # type: ignore[list-item]


def test_options_of_an_application_replace_those_of_the_extension(make_app: Run, database_url: str) -> None:
    problems = [ConnectionError("no answer")] * 2

    def send(_: StepContext) -> None:
        if problems:
            raise problems.pop()

    shop, clock = Shop(options={"threads": 2, "lease": 5}), ManualClock()
    shop.wfe.register(WorkflowBuilder("mail", on_error=Retry(600)).start_with(send).build())
    app = make_app(shop, database_url, host_options={"clock": clock, "threads": 3})
    began = clock()
    with app.app_context():
        id = shop.wfe.host.start_workflow("mail")
        shop.wfe.host.run_until_idle(advance=True)
        assert shop.wfe.provider.get_workflow_instance(id).status == "Complete"
        assert (shop.wfe.host.clock, shop.wfe.host.threads) == (clock, 3)
    assert round((clock() - began).total_seconds()) == 600 + 1200
