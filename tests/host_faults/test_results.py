"""Results of steps that cannot be stored, and saves that are refused: the step has failed, and says why."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.host_faults.kit.effects import Effects, note
from tests.host_faults.kit.local import errors_of, host_of, pointer_of, run
from wfe_postgres import PointerStatus, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import ExecutionResult, Retry, StepContext, WorkflowBuilder

SECRET = "4929-secret"


def set_data(value: Any) -> Callable[[StepContext], Any]:
    """Return a step's body that sets data."""

    def change(context: StepContext) -> None:
        context.data["value"] = value

    return change


def circular(context: StepContext) -> None:
    """Data that contains itself."""
    context.data["self"] = context.data


def take_name(context: StepContext) -> None:
    """A name that another workflow has."""
    context.workflow.name = "taken"


def naive_time(context: StepContext) -> Any:
    """A time without a time zone."""
    return ExecutionResult.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001


def poison(context: StepContext) -> None:
    """Data that the database refuses, whenever it is sent."""
    context.data["poison"] = SECRET


RESULTS: dict[str, Callable[[StepContext], Any]] = {
    "object in data": set_data(object()),
    "set in data": set_data({SECRET}),
    "NaN in data": set_data(float("nan")),
    "NUL in data": set_data(f"{SECRET}\x00"),
    "surrogate in data": set_data(f"{SECRET}\udcff"),
    "bytes in data": set_data(SECRET.encode()),
    "number as a key in data": set_data({1: SECRET}),
    "too large data": set_data("x" * 2_000_000),
    "data that contains itself": circular,
    "data replaced": lambda context: setattr(context.workflow, "data", object()),
    "number as a result": lambda context: 42,
    "text as a result": lambda context: SECRET,
    "class as a result": lambda context: ExecutionResult,
    "iterator as a result": lambda context: iter([SECRET]),
    "object as outcome": lambda context: ExecutionResult.outcome(object()),
    "NUL as outcome": lambda context: ExecutionResult.outcome(f"{SECRET}\x00"),
    "object as persistence data": lambda context: ExecutionResult.persist(object()),
    "object as item": lambda context: ExecutionResult.branch([object()]),
    "number as items": lambda context: ExecutionResult.branch(7),  # type: ignore[arg-type]
    "text as time": lambda context: ExecutionResult.sleep("soon"),  # type: ignore[arg-type]
    "negative time": lambda context: ExecutionResult.sleep(-1),
    "time without a zone": naive_time,
    "NaN as time": lambda context: ExecutionResult.sleep(float("nan")),
    "endless time": lambda context: ExecutionResult.sleep(float("inf")),
    "NUL as event name": lambda context: ExecutionResult.wait_for_event("a\x00b", "key"),
    "number as event key": lambda context: ExecutionResult.wait_for_event("paid", 7),  # type: ignore[arg-type]
    "name that is taken": take_name,
    "data that the database refuses": poison,
}

# The constraint of an application, or a value that only the server can judge.
REFUSE_POISON = """
    ALTER TABLE wfc.workflows ADD CONSTRAINT no_poison CHECK (NOT coalesce(data ? 'poison', false))
"""


def store(context: StepContext) -> Any:
    """Return or set what cannot be stored."""
    note(context, "store")
    return RESULTS[context.data["kind"]](context)


def after(context: StepContext) -> None:
    """Must not run."""
    note(context, "after")


REFUSED = WorkflowBuilder("refused").start_with(store, on_error=Retry(interval=0, max_retries=2)).then(after).build()


@pytest.fixture
def small(database_url: str) -> Any:
    """A provider that refuses large values."""
    with PostgresPersistenceProvider(database_url, max_payload_bytes=1_000_000) as provider:
        yield provider


@pytest.mark.parametrize("transactional", [False, True])
def test_result_that_cannot_be_stored_fails_the_step(
    small: PostgresPersistenceProvider, sql: Sql, effects: Effects, transactional: bool
) -> None:
    sql(REFUSE_POISON)
    transaction = small.step_transactions(sessionmaker(small.engine)) if transactional else None
    host = host_of(small, REFUSED, transaction=transaction)
    small.create_new_workflow(WorkflowInstance("other", 1, name="taken"))
    ids = {kind: host.start_workflow("refused", {"kind": kind}) for kind in RESULTS}
    host.run_until_idle()
    for kind, id in ids.items():
        workflow = small.get_workflow_instance(id)
        assert effects.order(id) == ["store"] * 3, kind
        assert workflow.status is WorkflowStatus.SUSPENDED, kind
        assert pointer_of(workflow, "store").status is PointerStatus.FAILED, kind
        errors = errors_of(sql, workflow)
        assert len(errors) == 3, kind
        assert [it for it in errors if SECRET in it] == [], kind
        assert (workflow.data, workflow.name) == ({"kind": kind}, id)


def test_result_that_is_refused_for_a_passing_reason_is_saved(database_url: str, sql: Sql, effects: Effects) -> None:
    """A deadlock that the provider does not retry is no failure of the step."""
    sql("CREATE SEQUENCE public.tries")
    sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.data ? 'poison' AND nextval('public.tries') < 3 THEN RAISE 'later' USING ERRCODE = '40P01'; END IF;"
        " RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER refuse BEFORE UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION public.refuse()")
    definition = WorkflowBuilder("refused").start_with(store, on_error=Retry(interval=0, max_retries=0)).build()
    with PostgresPersistenceProvider(database_url, retry_budget=0) as provider:
        workflow = run(provider, definition, {"kind": "data that the database refuses"})
    assert effects.order() == ["store"]
    assert workflow.status is WorkflowStatus.COMPLETE
    assert errors_of(sql, workflow) == []
