"""A failure is classified by phase and SQLSTATE, and a failed connect by its message."""

from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres.connections.confirmation import CommitNotConfirmedError
from wfe_postgres.connections.deadlines import DeadlineExceeded
from wfe_postgres.connections.failures import Failure, Kind, classify, sqlstate_of

SECRET = "Key (reference)=(the customer's name) already exists"

states = some.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5)
classes = some.sampled_from([psycopg.Error, psycopg.OperationalError, psycopg.InternalError, psycopg.DataError])


class Diagnostics:
    """What the server says of a violated constraint."""

    constraint_name = "workflows_name_key"
    table_name = "workflows"


class Violation(psycopg.errors.UniqueViolation):
    """A driver's error with diagnostics, which otherwise come from the server alone."""

    diag: Any = Diagnostics()


def refusal(state: str | None, kind: type[psycopg.Error] = psycopg.OperationalError) -> psycopg.Error:
    """A driver's error with this SQLSTATE."""
    error = kind(SECRET)
    error.sqlstate = state
    return error


def wrapped(error: BaseException, *, invalidated: bool = False) -> DBAPIError:
    """The error as SQLAlchemy raises it."""
    return OperationalError("SELECT 1", {}, error, connection_invalidated=invalidated)


def outcome(failure: Failure) -> tuple[Kind, bool]:
    """The kind, and whether the caller may retry."""
    assert isinstance(failure.error, PersistenceError)
    return failure.kind, failure.error.retryable


SENT = {
    "40001": (Kind.ROLLED_BACK, True),
    "40P01": (Kind.ROLLED_BACK, True),
    "25P03": (Kind.ROLLED_BACK, True),
    "25P04": (Kind.ROLLED_BACK, True),
    "25006": (Kind.READ_ONLY, True),
    "08000": (Kind.LOST, True),
    "08006": (Kind.LOST, True),
    "57P01": (Kind.LOST, True),
    "57P02": (Kind.LOST, True),
    "57P03": (Kind.LOST, True),
    "57P05": (Kind.LOST, True),
    "57P04": (Kind.FINAL, True),
    "53300": (Kind.FINAL, True),
    "53100": (Kind.FINAL, True),
    "55P03": (Kind.FINAL, True),
    "57014": (Kind.FINAL, False),
    "23505": (Kind.FINAL, False),
    "22P02": (Kind.FINAL, False),
    "25P02": (Kind.FINAL, False),
    "42501": (Kind.FINAL, False),
    "42601": (Kind.FINAL, False),
    "40002": (Kind.FINAL, False),
    "XX000": (Kind.FINAL, False),
}
NOT_SENT = {
    "28P01": (Kind.FINAL, False),
    "3D000": (Kind.FINAL, False),
    "42501": (Kind.FINAL, False),
    "53300": (Kind.NOT_SENT, True),
    "57P03": (Kind.NOT_SENT, True),
    "57P01": (Kind.NOT_SENT, True),
    "08001": (Kind.NOT_SENT, True),
    "40001": (Kind.NOT_SENT, True),
    "25006": (Kind.NOT_SENT, True),
}


@pytest.mark.parametrize(("state", "expected"), SENT.items())
def test_failure_after_the_connect_is_classified_by_its_sqlstate(state: str, expected: tuple[Kind, bool]) -> None:
    error = refusal(state)
    failure = classify(wrapped(error))
    assert outcome(failure) == outcome(classify(error)) == expected
    assert getattr(failure.error, "sqlstate", None) == state


@pytest.mark.parametrize(("state", "expected"), NOT_SENT.items())
def test_failed_connect_with_an_sqlstate_is_classified_by_that(state: str, expected: tuple[Kind, bool]) -> None:
    failure = classify(refusal(state), sent=False)
    assert outcome(failure) == expected
    assert getattr(failure.error, "sqlstate", None) == state


@settings(deadline=None)
@given(states, classes, classes, some.booleans())
def test_class_of_the_error_does_not_matter_beside_an_sqlstate(
    state: str, one: type[psycopg.Error], other: type[psycopg.Error], sent: bool
) -> None:
    assert classify(refusal(state, one), sent=sent).kind == classify(refusal(state, other), sent=sent).kind


@settings(deadline=None)
@given(states | some.sampled_from([*SENT]))
def test_failed_connect_had_no_effect_whatever_its_sqlstate(state: str) -> None:
    kind, retryable = outcome(classify(wrapped(refusal(state)), sent=False))
    assert kind is (Kind.NOT_SENT if retryable else Kind.FINAL)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the server closed the connection unexpectedly"),
        ConnectionResetError(104, "reset"),
        BrokenPipeError(),
        wrapped(psycopg.OperationalError("consuming input failed")),
        wrapped(ConnectionResetError(104, "reset")),
        wrapped(psycopg.InterfaceError("the connection is closed"), invalidated=True),
    ],
)
def test_failure_without_an_sqlstate_on_a_cut_connection_is_lost(error: BaseException) -> None:
    failure = classify(error)
    assert outcome(failure) == (Kind.LOST, True)
    assert str(failure.error) == "the connection to the database was lost"


@pytest.mark.parametrize(
    "error",
    [
        psycopg.InterfaceError("cannot adapt"),
        wrapped(psycopg.ProgrammingError("the query has 0 placeholders")),
        InvalidRequestError("a transaction is already begun"),
    ],
)
def test_failure_without_an_sqlstate_on_a_whole_connection_is_final(error: BaseException) -> None:
    failure = classify(error)
    assert outcome(failure) == (Kind.FINAL, False)
    assert str(failure.error).startswith("the statement was not sent: ")


@pytest.mark.parametrize("state", ["22P05", "22021"])
def test_character_that_the_encoding_lacks_is_named_as_the_reason(state: str) -> None:
    assert "UTF8 is needed" in str(classify(wrapped(refusal(state))).error)


@pytest.mark.parametrize("timed_out", [True, False])
def test_deadline_without_an_answer_is_a_lost_connection(timed_out: bool) -> None:
    failure = classify(wrapped(DeadlineExceeded("no answer")), timed_out=timed_out)
    assert outcome(failure) == (Kind.LOST, True)
    assert "call_timeout" in str(failure.error)


def test_statement_cancelled_at_our_deadline_is_not_repeated() -> None:
    """The server is alive and the statement slow: it would be so again. The caller may retry later."""
    failure = classify(wrapped(refusal("57014")), timed_out=True)
    assert outcome(failure) == (Kind.FINAL, True)
    assert "call_timeout" in str(failure.error)
    assert getattr(failure.error, "sqlstate", None) == "57014"


@pytest.mark.parametrize("state", [state for state in SENT if state != "57014"])
def test_other_failure_at_our_deadline_is_classified_by_its_sqlstate(state: str) -> None:
    assert outcome(classify(refusal(state), timed_out=True)) == SENT[state]


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("timed_out", [True, False])
def test_commit_that_was_not_confirmed_is_never_retryable(sent: bool, timed_out: bool) -> None:
    failure = classify(CommitNotConfirmedError(), sent=sent, timed_out=timed_out)
    assert outcome(failure) == (Kind.NOT_CONFIRMED, False)
    assert "it may not be replicated" in str(failure.error)


@pytest.mark.parametrize("sent", [True, False])
def test_exhausted_pool_is_left_to_the_caller_to_retry(sent: bool) -> None:
    failure = classify(PoolTimeoutError("QueuePool limit reached"), sent=sent)
    assert outcome(failure) == (Kind.FINAL, True)
    assert str(failure.error) == "no connection of the pool came free in time"


@pytest.mark.parametrize("state", ["42P01", "3F000", "42703", "42883", "42P10"])
def test_missing_store_names_the_command_that_helps(state: str) -> None:
    failure = classify(wrapped(refusal(state)), schema="shop")
    assert outcome(failure) == (Kind.FINAL, False)
    assert type(failure.error) is StoreNotReadyError
    assert failure.error.sqlstate == state
    assert "wfe-postgres upgrade" in str(failure.error)
    assert "ensure_store_exists()" in str(failure.error)
    assert "schema shop" in str(failure.error)


def test_missing_privilege_says_which_are_needed() -> None:
    error = classify(wrapped(refusal("42501"))).error
    assert type(error) is PersistenceError
    assert "SELECT, INSERT, UPDATE and DELETE" in str(error)


def test_violated_constraint_is_named_with_its_table() -> None:
    error = classify(wrapped(Violation(SECRET))).error
    assert isinstance(error, PersistenceError)
    assert error.reason == "the database refused the statement: Violation on workflows"
    assert (error.sqlstate, error.constraint) == ("23505", "workflows_name_key")


@pytest.mark.parametrize("state", [*SENT, "42P01", None])
@pytest.mark.parametrize("sent", [True, False])
def test_text_of_the_driver_is_kept_out_of_the_error(state: str | None, sent: bool) -> None:
    """It can quote the values of a row."""
    driver = wrapped(refusal(state))
    error = classify(driver, sent=sent).error
    assert isinstance(error, PersistenceError)
    assert error.original is driver
    assert SECRET not in f"{error} {error!r} {error.args}"


def test_sqlstate_is_found_on_the_error_and_within_sqlalchemy_s() -> None:
    assert sqlstate_of(refusal("40001")) == sqlstate_of(wrapped(refusal("40001"))) == "40001"
    assert sqlstate_of(psycopg.errors.UniqueViolation()) == "23505"
    assert sqlstate_of(psycopg.OperationalError()) is sqlstate_of(OSError()) is None
