"""The connection of a step's transaction is lost with its commit, in a context manager of the application's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.host_faults.kit.effects import Effects, note
from tests.host_faults.kit.local import errors_of, host_of
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import StepContext, Suspend, WorkflowBuilder

INSERT = "INSERT INTO public.effects (workflow, what) VALUES ('row', 'row')"
END = "SELECT pg_terminate_backend(%s, 5000)"


class Error(Exception):
    """As Django's: has no SQLSTATE itself, but a cause that may have one."""


class OperationalError(Error):
    """As the error of PEP 249, by its name."""


class InterfaceError(Error):
    """As the error of PEP 249, by its name."""


Transaction = Callable[[Callable[[Any], None]], Any]


@pytest.fixture
def on_psycopg(provider: PostgresPersistenceProvider, database_url: str) -> Transaction:
    """Transactions on psycopg's connections; the callable is called with the connection before the commit."""

    def make(before_commit: Callable[[Any], None]) -> Any:
        @contextmanager
        def transaction() -> Iterator[tuple[PersistenceProvider, Any]]:
            with psycopg.connect(database_url) as connection:
                yield provider.using(connection), connection
                before_commit(connection)

        return transaction

    return make


def once(action: Callable[[Any], None]) -> Callable[[Any], None]:
    """The action the first time, then nothing."""
    left = [action]
    return lambda it: left.pop()(it) if left else None


def end_backend(sql: Sql, connection: Any) -> None:
    """End the connection at the server."""
    sql(END, [connection.info.backend_pid])


def run_step(provider: PostgresPersistenceProvider, transaction: Any, *, interrupted: bool = True) -> WorkflowInstance:
    """A workflow of one step that writes a row in its transaction, as it is stored after that."""

    def write(context: StepContext) -> None:
        note(context, "ran")
        getattr(context.session, "exec_driver_sql", context.session.execute)(INSERT)

    definition = WorkflowBuilder("writes").start_with(write, on_error=Suspend()).build()
    host = host_of(provider, definition, transaction=transaction)
    id = host.start_workflow("writes")
    host.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert workflow.status is (WorkflowStatus.COMPLETE if interrupted else WorkflowStatus.SUSPENDED)
    assert workflow.execution_pointers[0].retry_count == (0 if interrupted else 1)
    return workflow


def test_step_is_repeated_when_its_connection_was_ended_before_the_commit(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, on_psycopg: Transaction
) -> None:
    end = once(lambda connection: end_backend(sql, connection))
    workflow = run_step(provider, on_psycopg(end))
    assert effects.counts() == {"ran": 2, "row": 1}
    [error] = errors_of(sql, workflow)
    assert error.startswith("LostTryError: its transaction was lost: ")


@pytest.mark.usefixtures("effects")
def test_lost_try_says_why_when_the_transaction_could_not_begin(
    provider: PostgresPersistenceProvider, sql: Sql, caplog: pytest.LogCaptureFixture, on_psycopg: Transaction
) -> None:
    """By the types of the errors, whose texts can hold values, as those of a pool without a free connection."""
    begin, missing = on_psycopg(lambda _: None), [OperationalError("hidden")]

    def transaction() -> Any:
        if missing:
            raise missing.pop() from psycopg.OperationalError("hidden")
        return begin()

    [error] = errors_of(sql, run_step(provider, transaction))
    reason = "its transaction could not begin: OperationalError, from OperationalError"
    assert error == f"LostTryError: {reason}, in the step (try 1 of 5)"
    assert f"a try was lost ({reason})" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
@pytest.mark.parametrize("cause", [None, psycopg.OperationalError("the server closed the connection")])
def test_step_is_repeated_when_the_error_of_another_library_says_that_the_connection_was_lost(
    provider: PostgresPersistenceProvider,
    effects: Effects,
    on_psycopg: Transaction,
    kind: type[Error],
    cause: Exception | None,
) -> None:
    def lose(_: Any) -> None:
        raise kind("server closed the connection unexpectedly") from cause

    run_step(provider, on_psycopg(once(lose)))
    assert effects.counts() == {"ran": 2, "row": 1}


@pytest.mark.parametrize("kind", [Error, OperationalError])
def test_step_has_failed_when_the_server_refused_its_commit(
    provider: PostgresPersistenceProvider, effects: Effects, on_psycopg: Transaction, kind: type[Error]
) -> None:
    def refuse(_: Any) -> None:
        raise kind("canceling statement due to statement timeout") from psycopg.errors.QueryCanceled()

    run_step(provider, on_psycopg(once(refuse)), interrupted=False)
    assert effects.counts() == {"ran": 1}


def test_step_is_not_repeated_when_its_commit_took_place_before_the_connection_was_lost(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, on_psycopg: Transaction
) -> None:
    def lose(connection: Any) -> None:
        connection.commit()
        raise OperationalError("server closed the connection unexpectedly")

    workflow = run_step(provider, on_psycopg(once(lose)))
    assert effects.counts() == {"ran": 1, "row": 1}
    assert errors_of(sql, workflow) == []


def test_step_of_a_sessionmaker_is_repeated_when_its_connection_was_ended_before_the_commit(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    end = once(lambda connection: end_backend(sql, connection))
    sessions = provider.step_transactions(sessionmaker(provider.engine))

    @contextmanager
    def transaction() -> Iterator[tuple[PersistenceProvider, Any]]:
        with sessions() as (joined, session):
            connection = session.connection()
            yield joined, connection
            end(connection.connection.dbapi_connection)

    run_step(provider, transaction)
    assert effects.counts() == {"ran": 2, "row": 1}
