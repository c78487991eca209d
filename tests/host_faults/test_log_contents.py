"""Logs and errors of the host contain no values of workflows, whatever goes wrong."""

import logging

import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects, note, wait_at
from tests.host_faults.kit.local import host_of
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import ExecutionResult, Retry, StepContext, WorkflowBuilder

SECRET = "4929-canary"


def spend(context: StepContext) -> None:
    """Fails without a word of the data."""
    secret = context.data["card"]
    note(context, "spend")
    if secret:
        raise RuntimeError("declined")


def spoil(context: StepContext) -> None:
    """Data that cannot be stored."""
    context.data["number"] = {SECRET}


def spoil_key(context: StepContext) -> None:
    """Data that cannot be stored, under a key that can."""
    context.data["number"] = f"{SECRET}\x00"


def spoil_result(context: StepContext) -> ExecutionResult:
    """A result that cannot be stored."""
    return ExecutionResult.persist({"number": SECRET, "other": object()})


def no_result(context: StepContext) -> ExecutionResult:
    """No result at all."""
    return SECRET  # type: ignore[return-value]


def overtaken(context: StepContext) -> None:
    """Its save is refused."""
    note(context, "began")
    wait_at("gate")


STEPS = (spend, spoil, spoil_key, spoil_result, no_result)
DATA = {"card": SECRET, "items": [SECRET]}


@pytest.mark.parametrize("transactional", [False, True])
def test_failures_tell_no_values_of_the_workflow(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    settled: Settled,
    caplog: pytest.LogCaptureFixture,
    transactional: bool,
) -> None:
    sql(f"ALTER TABLE wfc.workflows ADD CONSTRAINT refused CHECK (data->>'card' <> '{SECRET}!')")
    behaviour = Retry(0, max_retries=1)
    definitions = [WorkflowBuilder(it.__name__).start_with(it, on_error=behaviour).build() for it in STEPS]
    definitions += [
        WorkflowBuilder("waits", on_error=behaviour).wait_for("bell", key=SECRET, timeout=0).build(),
        WorkflowBuilder("each").for_each(lambda it: it.data["items"], lambda it: it.then(spend)).build(),
        WorkflowBuilder("refused").start_with(refuse, on_error=behaviour).build(),
        WorkflowBuilder("overtaken").start_with(overtaken).build(),
    ]
    transaction = provider.step_transactions(sessionmaker(provider.engine)) if transactional else None
    with (
        caplog.at_level(logging.DEBUG, "wfe_postgres"),
        host_of(provider, *definitions, transaction=transaction) as host,
    ):
        ids = [host.start_workflow(it.id, DATA, reference=SECRET) for it in definitions if it.id != "each"]
        effects.wait_for("began")
        host.publish_event("bell", SECRET, SECRET)
        assert provider.terminate_workflow(ids[-1])
        effects.open("gate")
        settled(ids, WorkflowStatus.SUSPENDED, WorkflowStatus.TERMINATED, WorkflowStatus.COMPLETE)
    formatter = logging.Formatter()
    ours = [formatter.format(it) for it in caplog.records if it.name.startswith("wfe_postgres")]
    assert len(ours) >= len(STEPS)
    assert [it for it in ours if SECRET in it] == []
    stored = [message for (message,) in sql("SELECT message FROM wfc.execution_errors")]
    assert len(stored) >= len(STEPS)
    assert [it for it in stored if SECRET in it] == []


def refuse(context: StepContext) -> None:
    """Data that the database refuses."""
    context.data["card"] = f"{SECRET}!"
