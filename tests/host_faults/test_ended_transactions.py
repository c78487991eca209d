"""A step that ends the transaction of its session, which is its host's to end."""

from collections.abc import Callable
from operator import methodcaller

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.conftest import Sql
from tests.host_faults.kit.effects import Effects, note, note_in_transaction
from tests.host_faults.kit.local import errors_of, host_of
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder


def commit_in_savepoint(session: Session) -> None:
    """Of the savepoint and, around it, of the transaction."""
    session.begin_nested()
    session.commit()


ENDS = [methodcaller("commit"), commit_in_savepoint, methodcaller("rollback"), methodcaller("close")]


@pytest.mark.parametrize("end", ENDS, ids=["commit", "commit in a savepoint", "rollback", "close"])
def test_step_that_ends_its_transaction_fails_and_none_of_its_rows_are_stored(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, end: Callable[[Session], None]
) -> None:
    def step(context: StepContext) -> None:
        note(context, "ran")
        note_in_transaction(context, "row")
        end(context.session)

    definition = WorkflowBuilder("ending").start_with(step, on_error=Retry(0, max_retries=1)).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(provider.engine)))
    id = host.start_workflow("ending")
    host.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert effects.order() == ["ran", "ran"]
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert ["InvalidRequestError" in it for it in errors_of(sql, workflow)] == [True, True]


def test_step_that_uses_savepoints_is_committed_with_its_result(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    def step(context: StepContext) -> None:
        with context.session.begin_nested():
            note_in_transaction(context, "kept")
        with context.session.begin_nested() as savepoint:
            note_in_transaction(context, "dropped")
            savepoint.rollback()

    definition = WorkflowBuilder("nested").start_with(step).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(provider.engine)))
    id = host.start_workflow("nested")
    host.run_until_idle()
    assert effects.order() == ["kept"]
    assert provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE
