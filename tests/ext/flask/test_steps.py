"""Steps have the application's context, and `db.session` in it is the session of their transaction."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask import Flask, current_app, g

from tests.conftest import Sql
from tests.ext.flask.application import AT_ONCE, Shop
from wfe_postgres import WorkflowInstance, WorkflowStatus
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowBuilder

Step = Callable[[StepContext], object]
RunStep = Callable[..., WorkflowInstance]
NUMBER = {"number": "4711"}


@pytest.fixture
def run_step(shop: Shop, app: Flask) -> RunStep:
    """Runs a workflow of one step to its end, and returns it."""

    def run(step: Step, **options: bool) -> WorkflowInstance:
        def call(context: StepContext) -> None:
            step(context)

        shop.wfe.register(WorkflowBuilder("one", on_error=AT_ONCE).start_with(call, **options).build())
        with app.app_context():
            id = shop.wfe.host.start_workflow("one", NUMBER)
            shop.wfe.host.run_until_idle()
            return shop.wfe.provider.get_workflow_instance(id)

    return run


def stored(shop: Shop, app: Flask) -> list[tuple[str, str]]:
    """The rows of the application."""
    with app.app_context():
        return shop.orders()


def test_rows_of_db_session_are_committed_with_the_result(shop: Shop, app: Flask, run_step: RunStep) -> None:
    def step(context: StepContext) -> None:
        assert shop.db.session() is context.session
        shop.ship(context)
        shop.db.session.flush()
        assert stored_elsewhere(shop, app) == []

    assert run_step(step).status is WorkflowStatus.COMPLETE
    assert stored(shop, app) == [("4711", "shipped")]


def stored_elsewhere(shop: Shop, app: Flask) -> list[tuple[str, str]]:
    """The rows as another transaction sees them."""
    with app.app_context():
        found = shop.orders()
        shop.db.session.remove()
        return found


def test_rows_of_a_step_that_fails_are_rolled_back(shop: Shop, app: Flask, run_step: RunStep) -> None:
    tries: list[int] = []

    def step(context: StepContext) -> None:
        tries.append(context.attempt)
        shop.ship(context)
        shop.db.session.flush()
        if context.attempt == 1:
            raise RuntimeError("the carrier does not answer")

    assert run_step(step).status is WorkflowStatus.COMPLETE
    assert tries == [1, 2]
    assert stored(shop, app) == [("4711", "shipped")]


def test_rows_of_a_step_whose_result_is_refused_are_rolled_back(shop: Shop, app: Flask, run_step: RunStep) -> None:
    """The workflow is terminated meanwhile, so the save of the result is refused."""

    def step(context: StepContext) -> None:
        shop.ship(context)
        with app.app_context():
            shop.wfe.provider.terminate_workflow(context.workflow.id)

    assert run_step(step).status is WorkflowStatus.TERMINATED
    assert stored(shop, app) == []


@pytest.mark.parametrize("end", ["commit", "rollback", "close", "remove"])
def test_step_that_ends_the_transaction_of_db_session_fails(
    shop: Shop, app: Flask, run_step: RunStep, end: str
) -> None:
    def step(context: StepContext) -> None:
        shop.ship(context)
        shop.db.session.flush()
        getattr(shop.db.session, end)()

    assert run_step(step).status is WorkflowStatus.SUSPENDED
    assert stored(shop, app) == []


def test_workflow_started_in_a_step_is_committed_with_it(shop: Shop, app: Flask, run_step: RunStep, sql: Sql) -> None:
    def step(context: StepContext) -> None:
        shop.wfe.using_session().start_workflow("order", NUMBER, reference=f"by {context.attempt}")
        if context.attempt == 1:
            raise RuntimeError("after it was started")

    run_step(step)
    assert sql("SELECT reference FROM wfc.workflows WHERE reference IS NOT NULL") == [("by 2",)]
    assert stored(shop, app) == [("4711", "shipped")]


def test_step_without_a_transaction_has_a_session_as_a_request_has(shop: Shop, app: Flask, run_step: RunStep) -> None:
    """What it commits is stored at once; what it does not commit is rolled back when it ends."""

    def step(context: StepContext) -> None:
        assert context.session is None
        shop.ship(context)
        shop.db.session.commit()
        shop.db.session.add(shop.Order(number="4711", step="not committed"))
        shop.db.session.flush()

    assert run_step(step, transaction=False).status is WorkflowStatus.COMPLETE
    assert stored(shop, app) == [("4711", "shipped")]


@pytest.mark.parametrize("transaction", [True, False])
def test_each_step_has_an_application_context_of_its_own(
    shop: Shop, app: Flask, run_step: RunStep, transaction: bool
) -> None:
    torn_down: list[list[tuple[str, str]]] = []

    @app.teardown_appcontext
    def note(_: BaseException | None) -> None:
        if g.pop("in_step", False):
            torn_down.append(shop.orders() if transaction else [])
            if transaction:
                shop.db.session.commit()

    def step(context: StepContext) -> None:
        assert current_app == app
        assert not g.get("in_step")
        g.in_step = True
        shop.ship(context)
        if context.attempt == 1:
            raise RuntimeError("in the first context")
        if not transaction:
            shop.db.session.commit()

    assert run_step(step, transaction=transaction).status is WorkflowStatus.COMPLETE
    assert torn_down == [[], [("4711", "shipped")] if transaction else []]


@pytest.mark.parametrize("transaction", [True, False])
def test_middleware_of_the_application_is_inside_the_context(
    make_app: Callable[..., Flask], database_url: str, transaction: bool
) -> None:
    seen: list[str] = []

    def note(
        context: StepContext, call_next: Callable[[StepContext], ExecutionResult | None]
    ) -> ExecutionResult | None:
        seen.append(current_app.name)
        return call_next(context)

    shop = Shop(options={"middleware": [note]})
    shop.wfe.register(WorkflowBuilder("one").start_with(lambda _: None, name="one", transaction=transaction).build())
    with make_app(shop, database_url).app_context():
        host = shop.wfe.host
    host.start_workflow("one")
    host.run_until_idle()
    assert seen == ["shop"]


def test_rows_of_steps_in_threads_are_written_once(make_app: Callable[..., Flask], database_url: str) -> None:
    """Each thread has the session of its own step."""
    shop = Shop(options={"threads": 4, "poll_interval": 0.05, "queue": True})
    app = make_app(shop, database_url)
    ended = threading.Semaphore(0)
    for number in range(40):
        app.test_client().post(f"/orders/{number}")
    with app.app_context():
        shop.wfe.host.on(lambda event: ended.release() if event.type == "Completed" else None)
        with shop.wfe.host:
            for _ in range(40):
                assert ended.acquire(timeout=30)
        expected = sorted((str(number), step) for number in range(40) for step in ("placed", "shipped"))
        assert sorted(shop.orders()) == expected


def refuse(_: StepContext) -> None:
    """Fail."""
    raise RuntimeError("the carrier does not answer")


def return_no_json(context: StepContext) -> None:
    """Let the result be refused, after the step has ended."""
    context.data["when"] = datetime.now(UTC)


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize(("step", "functions"), [(refuse, ["call", "refuse"]), (return_no_json, [])])
def test_stored_error_has_the_frames_of_the_step_alone(
    shop: Shop, app: Flask, run_step: RunStep, transaction: bool, step: Step, functions: list[str]
) -> None:
    workflow = run_step(step, transaction=transaction)
    with app.app_context():
        errors = shop.wfe.provider.get_execution_errors(workflow.id)
    assert len(errors) == 2
    for error in errors:
        assert [line.rpartition(" in ")[2] for line in error.message.splitlines()[1:]] == functions
