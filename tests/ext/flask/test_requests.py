"""Views start workflows in the transaction of `db.session`."""

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from tests.conftest import InProcesses
from tests.ext.flask.application import Shop
from tests.ext.flask.conftest import Run
from wfe_postgres import StoreNotReadyError, WorkflowStatus
from wfe_postgres.ext.flask import WFE
from wfe_postgres.host import WorkflowBuilder
from wfe_postgres.orm import WorkflowRow


def test_order_and_its_workflow_are_committed_together(shop: Shop, app: Flask) -> None:
    id = app.test_client().post("/orders/4711").get_json()["workflow"]
    with app.app_context():
        assert shop.orders() == [("4711", "placed")]
        assert shop.wfe.provider.get_workflow_instance(id).reference == "4711"


def test_order_that_the_commit_refuses_takes_its_workflow_with_it(shop: Shop, app: Flask) -> None:
    app.testing = True
    app.test_client().post("/orders/4711")
    with pytest.raises(IntegrityError):
        app.test_client().post("/orders/4711")
    with app.app_context():
        assert len(shop.wfe.provider.find_workflows(reference="4711").items) == 1


def test_workflow_of_a_request_that_did_not_commit_is_rolled_back(shop: Shop, app: Flask) -> None:
    with app.app_context():
        shop.wfe.using_session().start_workflow("order", {"number": "4711"})
    with app.app_context():
        assert shop.wfe.provider.find_workflows().items == []


def test_workflow_can_be_queried_in_the_session_that_has_started_it(shop: Shop, app: Flask) -> None:
    with app.app_context():
        id = shop.wfe.using_session().start_workflow("order", {"number": "4711"}, reference="4711")
        assert shop.db.session.get_one(WorkflowRow, id).reference == "4711"


def test_one_object_serves_two_applications_on_two_databases(
    make_app: Run, shop: Shop, database_url: str, empty_database_url: str
) -> None:
    one, two = make_app(shop, database_url), make_app(shop, empty_database_url)
    with two.app_context():
        shop.wfe.provider.ensure_store_exists()
    one.test_client().post("/orders/1")
    two.test_client().post("/orders/2")
    for app, number in ((one, "1"), (two, "2")):
        with app.app_context():
            shop.wfe.host.run_until_idle()
            assert shop.orders() == [(number, "placed"), (number, "shipped")]


def test_schema_is_that_of_the_extension(make_app: Run, empty_database_url: str) -> None:
    shop = Shop(options={"schema": "shop"})
    app = make_app(shop, empty_database_url)
    with app.app_context():
        with pytest.raises(StoreNotReadyError, match="shop"):
            shop.wfe.provider.find_workflows()
        shop.wfe.provider.ensure_store_exists()
        app.test_client().post("/orders/4711")
        assert len(shop.wfe.provider.find_workflows().items) == 1


def test_processes_that_are_forked_after_the_engine_was_used_have_connections_of_their_own(
    shop: Shop, app: Flask, in_processes: InProcesses
) -> None:
    """As by `gunicorn --preload`. The application has used its own tables only."""
    with app.app_context():
        assert shop.orders() == []

    def place(number: str) -> None:
        with app.app_context():
            shop.place(number)
            shop.wfe.host.run_until_idle()

    in_processes(place, [(str(number),) for number in range(4)], method="fork")
    with app.app_context():
        assert {step for _, step in shop.orders()} == {"placed", "shipped"}
        assert len(shop.orders()) == 8
        assert shop.wfe.provider.get_statistics().workflows[WorkflowStatus.COMPLETE] == 4


def test_definition_registered_after_the_host_was_used_is_refused(shop: Shop, app: Flask) -> None:
    with app.app_context():
        assert shop.wfe.host
        with pytest.raises(RuntimeError, match="before the host is used"):
            shop.wfe.register(WorkflowBuilder("late").start_with(print).build())


def test_definition_is_returned_by_register() -> None:
    definition = WorkflowBuilder("order").start_with(print).build()
    assert WFE().register(definition) is definition
