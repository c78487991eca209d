"""`get_execution_errors`, `get_workflow_subscriptions` and `get_statistics`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Sql
from wfe_postgres import (
    ExecutionError,
    PostgresPersistenceProvider,
    SerializationError,
    StoreStatistics,
    WorkflowStatus,
)
from wfe_postgres.schema import HEAD
from wfe_postgres.testing.conformance.support import at, command, event, from_now, subscription, workflow

Provider = PostgresPersistenceProvider
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - invalid on purpose


def failure(workflow_id: str, second: float, message: str = "failed") -> ExecutionError:
    """An execution error at that second."""
    return ExecutionError(workflow_id, "pointer", message, error_time=at(second))


def test_execution_errors_are_filtered_and_ordered(provider: Provider) -> None:
    """Newest first, and at equal times the last one stored first; filtered by workflow and by time."""
    stored = [failure("a", 1), failure("b", 3), failure("a", 2), failure("a", 2, "later"), failure("b", 0)]
    provider.persist_errors(stored)
    first, second, third, later, last = stored
    assert provider.get_execution_errors() == [second, later, third, first, last]
    assert provider.get_execution_errors("a") == [later, third, first]
    assert provider.get_execution_errors("a", since=at(2)) == [later, third]
    assert provider.get_execution_errors(since=at(3)) == [second]
    assert provider.get_execution_errors(since=at(3) + timedelta(microseconds=1)) == []
    assert provider.get_execution_errors(limit=2) == [second, later]
    assert provider.get_execution_errors("missing") == []


def test_execution_errors_default_limit_is_100(provider: Provider) -> None:
    """A larger limit can be passed."""
    provider.persist_errors([failure("a", second, str(second)) for second in range(150)])
    assert [it.message for it in provider.get_execution_errors()] == [str(it) for it in range(149, 49, -1)]
    assert len(provider.get_execution_errors(limit=1000)) == 150


def test_invalid_filters_of_execution_errors_are_rejected(provider: Provider) -> None:
    """A SerializationError with the name of the filter."""
    bad: dict[str, dict[str, Any]] = {"since": {"since": NAIVE}, "workflow_id": {"workflow_id": "\0"}}
    for path, params in bad.items():
        with pytest.raises(SerializationError) as caught:
            provider.get_execution_errors(**params)
        assert caught.value.path == path


def test_workflow_subscriptions_are_returned_oldest_first(provider: Provider) -> None:
    """Open, held and expired subscriptions of the workflow, and none of other workflows."""
    held = subscription(subscribe_as_of=at(1), external_token="t", external_worker_id="w")
    open_one = subscription(subscribe_as_of=at(0), subscription_data={"a": 1})
    expired = subscription(subscribe_as_of=at(2), external_token="t", external_token_expiry=from_now(-1))
    for it in (held, open_one, expired, subscription(workflow_id="other")):
        provider.create_event_subscription(it)
    assert provider.get_workflow_subscriptions("workflow-1") == [open_one, held, expired]
    assert provider.get_workflow_subscriptions("missing") == []


def test_statistics_of_an_empty_store_are_zero(provider: Provider) -> None:
    """Counts are zero, the oldest times are None, and the schema revision is the latest."""
    found = provider.get_statistics()
    assert found == StoreStatistics(
        workflows=dict.fromkeys(WorkflowStatus, 0),
        runnable_due=0,
        oldest_due=None,
        unprocessed_events=0,
        oldest_unprocessed_event=None,
        due_commands=0,
        oldest_due_command=None,
        open_subscriptions=0,
        held_subscriptions=0,
        expired_subscriptions=0,
        execution_errors=0,
        schema_revision=HEAD,
        clock_offset=found.clock_offset,
    )


def test_statistics_count_rows_in_each_state(provider: Provider) -> None:
    """Due workflows and commands are determined by the server's clock."""
    past, future = from_now(-3600), from_now(3600)
    for status, count in zip(WorkflowStatus, (4, 3, 2, 1), strict=True):
        for _ in range(count):
            provider.create_new_workflow(workflow(status=status, next_execution=None))
    for due in (milliseconds(past), milliseconds(past) + 1, milliseconds(future)):
        provider.create_new_workflow(workflow(next_execution=due))
    for processed, timestamp in ((False, at(3)), (False, at(2)), (True, at(1))):
        provider.create_event(event(is_processed=processed, event_time=timestamp))
    for data, due in (("a", milliseconds(past) + 1), ("b", milliseconds(past)), ("c", milliseconds(future))):
        due_command = command(data)
        due_command.execute_time = due
        provider.schedule_command(due_command)
    for token, expiry in ((None, None), ("t", None), ("t", future), ("t", past)):
        provider.create_event_subscription(subscription(external_token=token, external_token_expiry=expiry))
    provider.persist_errors([failure("a", 1), failure("b", 2)])
    found = provider.get_statistics()
    assert found == StoreStatistics(
        workflows={
            WorkflowStatus.RUNNABLE: 7,
            WorkflowStatus.SUSPENDED: 3,
            WorkflowStatus.COMPLETE: 2,
            WorkflowStatus.TERMINATED: 1,
        },
        runnable_due=2,
        oldest_due=past.replace(microsecond=past.microsecond // 1000 * 1000),
        unprocessed_events=2,
        oldest_unprocessed_event=at(2),
        due_commands=2,
        oldest_due_command=past.replace(microsecond=past.microsecond // 1000 * 1000),
        open_subscriptions=2,
        held_subscriptions=2,
        expired_subscriptions=1,
        execution_errors=2,
        schema_revision=HEAD,
        clock_offset=found.clock_offset,
    )
    assert found.oldest_due is not None
    assert found.oldest_due.tzinfo is UTC


def milliseconds(timestamp: datetime) -> int:
    """Whole milliseconds since the Unix epoch."""
    return (timestamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("ahead", [0, 3600, -3600])
def test_clock_offset_is_local_time_minus_server_time(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, sql: Sql, ahead: float
) -> None:
    """In seconds; positive when the local clock is ahead, and negative when it is behind."""
    ((server_ahead,),) = sql(
        "SELECT extract(epoch FROM clock_timestamp())::float8 - %s", [datetime.now(UTC).timestamp()]
    )

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead)

    monkeypatch.setattr("wfe_postgres.repositories.queries.datetime", Skewed)
    assert provider.get_statistics().clock_offset == pytest.approx(ahead - server_ahead, abs=1)


@pytest.mark.parametrize("due", [-(2**63), -1, 2**63 - 1])
def test_statistics_clamp_due_times_outside_the_datetime_range(provider: Provider, due: int) -> None:
    """Due times are 64-bit integers: they are counted, and the oldest is clamped to the range of datetime."""
    provider.create_new_workflow(workflow(next_execution=due))
    provider.schedule_command(overdue := command("a"))
    overdue.execute_time = due
    provider.schedule_command(overdue)
    found = provider.get_statistics()
    assert found.runnable_due == found.due_commands == (1 if due < 0 else 0)
    if due < -1:
        assert found.oldest_due == found.oldest_due_command == datetime.min.replace(tzinfo=UTC)
