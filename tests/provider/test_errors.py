"""The attributes and messages of the errors, and that errors can be pickled and copied."""

import copy
import pickle
from collections.abc import Callable

import pytest

import wfe_postgres
from tests.provider.canaries import CANARY, shown
from wfe_postgres import (
    ConcurrencyError,
    CorruptRowError,
    EventExistsError,
    EventNotFoundError,
    NotFoundError,
    OutcomeUnknownError,
    PersistenceError,
    SerializationError,
    StoreNotReadyError,
    SubscriptionExistsError,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WfeError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)

EXAMPLES: list[WfeError] = [
    WfeError("anything"),
    WorkflowNotFoundError("w"),
    EventNotFoundError("e"),
    SubscriptionNotFoundError("s"),
    WorkflowExistsError("w", "n"),
    EventExistsError("e"),
    SubscriptionExistsError("s"),
    SubscriptionTokenError("s"),
    ConcurrencyError("w", 1, 2),
    SerializationError("data.x", "not supported"),
    PersistenceError("rejected", "23505", "events_pkey", True, original=LookupError(CANARY)),
    StoreNotReadyError("run it", "42P01", original=LookupError(CANARY)),
    OutcomeUnknownError("lost", ("w", "s"), original=LookupError(CANARY)),
    CorruptRowError("workflows", "w", "data"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("duplicate", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy])
def test_error_can_be_pickled_and_copied(error: WfeError, duplicate: Callable[[WfeError], WfeError]) -> None:
    """The result has the same attributes, without the psycopg error."""
    other = duplicate(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.args == error.args
    for name in ("workflow_id", "event_id", "subscription_id", "name", "expected", "found", "path", "reason"):
        assert getattr(other, name, None) == getattr(error, name, None)
    for name in ("sqlstate", "constraint", "retryable", "ids", "table", "row_id", "column"):
        assert getattr(other, name, None) == getattr(error, name, None)
    assert CANARY not in shown(other)


NOT_FOUND = {WorkflowNotFoundError, EventNotFoundError, SubscriptionNotFoundError}


def test_every_public_error_has_an_example() -> None:
    """Every public error class except NotFoundError is in EXAMPLES, and has the expected base class."""
    public = {it for it in vars(wfe_postgres).values() if isinstance(it, type) and issubclass(it, Exception)}
    assert public - {NotFoundError} == {type(it) for it in EXAMPLES}
    assert {it for it in public if issubclass(it, NotFoundError) and it is not NotFoundError} == NOT_FOUND
    assert issubclass(PersistenceError, WfeError)
    assert all(issubclass(it, PersistenceError) for it in (StoreNotReadyError, OutcomeUnknownError, CorruptRowError))


@pytest.mark.parametrize("error", EXAMPLES[1:], ids=lambda it: type(it).__name__)
def test_error_message_contains_its_attributes(error: WfeError) -> None:
    """Ids, constraint, SQLSTATE, path and column are in the message, which is one line."""
    text = str(error)
    assert "\n" not in text
    for name in ("workflow_id", "event_id", "subscription_id", "sqlstate", "constraint", "path", "row_id", "column"):
        if value := getattr(error, name, None):
            assert str(value) in text
