"""Steps that raise anything: each run is counted, has its error, and the host goes on."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, note
from tests.host_faults.kit.local import errors_of, host_of, pointer_of, run
from wfe_postgres import JSON_NULL, PersistenceError, PointerStatus, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, Suspend, Terminate, WorkflowBuilder

SECRET = "a value of the workflow"


class RaisingText(Exception):  # noqa: N818
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitingText(Exception):  # noqa: N818
    """Its text ends the thread."""

    def __str__(self) -> str:
        sys.exit("no text")


class OddText(Exception):  # noqa: N818
    """Its text is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Base(BaseException):
    """Not an `Exception`."""


def recurse() -> None:
    """Reach the limit of recursion."""
    recurse()


def raised(error: BaseException) -> Callable[[], None]:
    """Return a function that raises a new exception that equals this one."""

    def fail() -> None:
        raise error.__class__(*error.args)

    return fail


FAILURES: dict[str, Callable[[], None]] = {
    "RuntimeError": raised(RuntimeError("no stock")),
    "SystemExit": lambda: sys.exit(3),
    "SystemExit ": lambda: sys.exit(),
    "CancelledError": raised(asyncio.CancelledError()),
    "GeneratorExit": raised(GeneratorExit()),
    "StopIteration": raised(StopIteration(1)),
    "MemoryError": raised(MemoryError()),
    "RecursionError": recurse,
    "Base": raised(Base("base")),
    "RaisingText": raised(RaisingText()),
    "ExitingText": raised(ExitingText()),
    "OddText": raised(OddText()),
    "ExceptionGroup": lambda: raised(ExceptionGroup("several", [ValueError("a"), KeyError("b")]))(),
    "BaseExceptionGroup": lambda: raised(BaseExceptionGroup("several", [SystemExit(1)]))(),
    "ValueError": raised(ValueError("nul \x00 in the text")),
    "KeyError": raised(KeyError("surrogate \udcff in the text")),
    "OSError": raised(OSError("x" * 10_000_000)),
    "UniqueViolation": raised(psycopg.errors.UniqueViolation("from the application's own database")),
    "OperationalError": raised(psycopg.OperationalError("the application's own server is gone")),
    "PersistenceError": raised(PersistenceError("from the application's own provider", retryable=True)),
}


def before(context: StepContext) -> None:
    """Completes."""
    note(context, "before")


def fail(context: StepContext) -> None:
    """Changes what it should not, and raises."""
    note(context, "fail")
    context.data["changed"] = True
    context.pointer.persistence_data = {"changed": True}
    context.workflow.description = "changed"
    FAILURES[context.data["kind"]]()


def after(context: StepContext) -> None:
    """Must not run."""
    note(context, "after")


RETRIED = (
    WorkflowBuilder("failing")
    .start_with(before)
    .then(fail, on_error=Retry(interval=0, max_retries=2))
    .then(after)
    .build()
)


def test_step_that_raises_is_retried_then_suspended_with_an_error_for_each_run(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    host = host_of(provider, RETRIED)
    ids = {kind: host.start_workflow("failing", {"kind": kind}) for kind in FAILURES}
    host.run_until_idle()
    for kind, id in ids.items():
        workflow = provider.get_workflow_instance(id)
        assert effects.order(id) == ["before", "fail", "fail", "fail"], kind
        assert workflow.status is WorkflowStatus.SUSPENDED, kind
        assert pointer_of(workflow, "fail").status is PointerStatus.FAILED, kind
        assert pointer_of(workflow, "fail").retry_count >= 2, kind
        errors = errors_of(sql, workflow)
        assert len(errors) == 3, kind
        assert all(kind.strip() in it and __file__ in it and len(it) < 100_000 for it in errors), errors
        assert workflow.data == {"kind": kind}
        assert (workflow.description, pointer_of(workflow, "fail").persistence_data) == (None, None), kind


def test_started_host_runs_other_workflows_after_steps_that_raise(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled
) -> None:
    good = WorkflowBuilder("good").start_with(before).build()
    with host_of(provider, RETRIED, good, threads=2) as host:
        failing = [host.start_workflow("failing", {"kind": kind}) for kind in FAILURES]
        settled(failing, WorkflowStatus.SUSPENDED)
        settled([host.start_workflow("good")])
    assert [effects.counts(id) for id in failing] == [{"before": 1, "fail": 3}] * len(FAILURES)


@pytest.mark.parametrize(
    ("behaviour", "status"), [(Suspend(), WorkflowStatus.SUSPENDED), (Terminate(), WorkflowStatus.TERMINATED)]
)
def test_step_that_raises_suspends_or_terminates_at_once(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, behaviour: Suspend, status: WorkflowStatus
) -> None:
    definition = WorkflowBuilder("failing").start_with(fail, on_error=behaviour).then(after).build()
    workflow = run(provider, definition, {"kind": "ValueError"})
    assert workflow.status is status
    assert effects.order() == ["fail"]
    [error] = errors_of(sql, workflow)
    assert "\x00" not in error


def test_failed_step_is_logged_with_its_traceback(
    provider: PostgresPersistenceProvider, effects: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "wfe_postgres"):
        workflow = run(provider, RETRIED, {"kind": "RuntimeError", "secret": SECRET})
    logged = [it for it in caplog.records if it.levelno >= logging.WARNING and it.exc_info]
    assert len(logged) == 3
    assert all(workflow.id in it.getMessage() and "fail" in it.getMessage() for it in logged)
    assert all(it.exc_info and isinstance(it.exc_info[1], RuntimeError) for it in logged)


def test_failure_is_one_transaction_of_workflow_pointer_and_error(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    definition = WorkflowBuilder("failing").start_with(fail, on_error=Suspend()).build()
    workflow = run(provider, definition, {"kind": "RuntimeError"})
    [transactions] = sql(
        "SELECT w.xmin::text, p.xmin::text, e.xmin::text FROM wfc.workflows w"
        " JOIN wfc.execution_pointers p ON p.workflow_id = w.id JOIN wfc.execution_errors e ON e.workflow_id = w.id"
        " WHERE w.id = %s",
        [workflow.id],
    )
    assert len(set(transactions)) == 1


def test_failure_whose_error_cannot_be_stored_changes_nothing_and_is_stored_later(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    """The first insertion of the error is refused: the workflow must not be suspended without it."""
    sql("CREATE SEQUENCE public.tries")
    sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('public.tries') = 1 THEN RAISE 'disk full' USING ERRCODE = '53100'; END IF; RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER refuse BEFORE INSERT ON wfc.execution_errors FOR EACH ROW EXECUTE FUNCTION public.refuse()")
    definition = WorkflowBuilder("failing").start_with(fail, on_error=Suspend()).build()
    with host_of(provider, definition, lease=0.5) as host:
        id = host.start_workflow("failing", {"kind": "RuntimeError"})
        [workflow] = settled([id], WorkflowStatus.SUSPENDED)
    assert any("RuntimeError" in it for it in errors_of(sql, workflow))


def test_retry_waits_longer_each_time(provider: PostgresPersistenceProvider, sql: Sql, effects: Effects) -> None:
    behaviour = Retry(interval=100, max_retries=5, backoff=3.0, max_interval=250)
    definition = WorkflowBuilder("failing").start_with(fail, on_error=behaviour).build()
    host = host_of(provider, definition)
    id = host.start_workflow("failing", {"kind": "RuntimeError"})
    pauses = []
    for _ in range(3):
        host.run_until_idle()
        due = provider.get_workflow_instance(id).next_execution or 0
        pauses.append(round((due / 1000 - time.time()) / 10))
        due_now = provider.get_workflow_instance(id)
        due_now.next_execution = 0
        for pointer in due_now.execution_pointers:
            pointer.sleep_until = due_now.create_time
        provider.persist_workflow(due_now)
    assert pauses == [10, 25, 25]
    assert effects.counts() == {"fail": 3}


def test_step_without_a_limit_of_retries_keeps_retrying_and_counts(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, settled: Settled
) -> None:
    definition = WorkflowBuilder("failing").start_with(fail, on_error=Retry(0.01, max_retries=None, backoff=1)).build()
    with host_of(provider, definition, poll_interval=0.01) as host:
        id = host.start_workflow("failing", {"kind": "RuntimeError"})
        effects.wait_for("fail", 10)
        assert host.terminate_workflow(id)
    assert len(errors_of(sql, provider.get_workflow_instance(id))) >= 9


def test_json_null_as_data_of_a_failing_workflow_stays(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    def fail_without_data(context: StepContext) -> None:
        context.workflow.data = JSON_NULL
        raise RuntimeError("no data")

    definition = WorkflowBuilder("failing").start_with(fail_without_data, on_error=Suspend()).build()
    workflow = run(provider, definition, [1, 2])
    assert workflow.data == [1, 2]
    assert len(errors_of(sql, workflow)) == 1
