"""The conformance suite on the in-memory provider, and tests of its additional methods."""

from datetime import UTC, datetime, timedelta

import pytest

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import (
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    ScheduledCommand,
    WorkflowInstance,
)
from wfe_postgres.testing import InMemoryPersistenceProvider
from wfe_postgres.testing.conformance import Configure, PersistenceConformance

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class TestMemory(PersistenceConformance):
    """The complete suite."""

    @pytest.fixture
    def provider(self) -> InMemoryPersistenceProvider:
        return InMemoryPersistenceProvider()

    @pytest.fixture
    def configure(self, provider: InMemoryPersistenceProvider) -> Configure:
        return provider.another


class Clock:
    """A clock that only changes when it is set."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


def test_tokens_expire_by_the_given_clock() -> None:
    clock = Clock()
    provider = InMemoryPersistenceProvider(clock=clock)
    subscription_id = provider.create_event_subscription(EventSubscription("workflow", 1, "pointer", "paid", "1", NOON))
    provider.set_subscription_token(subscription_id, "mine", "worker", NOON + timedelta(seconds=1))
    clock.time = NOON + timedelta(microseconds=999_999)
    assert provider.get_first_open_subscription("paid", "1", NOON) is None
    assert not provider.set_subscription_token(subscription_id, "other", "rival", NOON + timedelta(hours=1))
    clock.time = NOON + timedelta(seconds=1)
    assert provider.get_first_open_subscription("paid", "1", NOON) is not None
    assert provider.set_subscription_token(subscription_id, "other", "rival", NOON + timedelta(hours=1))


def test_leases_expire_by_the_given_clock() -> None:
    clock = Clock()
    provider = InMemoryPersistenceProvider(clock=clock, command_lease=10)
    provider.schedule_command(ScheduledCommand.process_event("event", 0))
    rivals: list[int] = []

    def late(_: ScheduledCommand) -> None:
        for seconds in (9, 10):
            clock.time = NOON + timedelta(seconds=seconds)
            rivals.append(provider.process_commands(NOON, lambda _: None))

    provider.process_commands(NOON, late)
    assert rivals == [0, 1]


def test_errors_are_filtered_by_workflow_and_time() -> None:
    provider = InMemoryPersistenceProvider()
    errors = [ExecutionError(name, "p", name, error_time=NOON + timedelta(hours=n)) for n, name in enumerate("abab")]
    provider.persist_errors(errors[::-1])
    assert provider.get_execution_errors() == errors[::-1]
    assert provider.get_execution_errors("a") == [errors[2], errors[0]]
    assert provider.get_execution_errors("a", since=errors[1].error_time) == [errors[2]]
    assert provider.get_execution_errors(since=errors[2].error_time) == [errors[3], errors[2]]
    assert provider.get_execution_errors(limit=1) == [errors[3]]


def test_errors_with_equal_time_are_ordered_by_insertion() -> None:
    provider = InMemoryPersistenceProvider()
    provider.persist_errors([ExecutionError("w", "p", message, error_time=NOON) for message in ("first", "second")])
    assert [error.message for error in provider.get_execution_errors()] == ["second", "first"]


def test_invalid_query_arguments_are_rejected() -> None:
    provider = InMemoryPersistenceProvider()
    with pytest.raises(SerializationError):
        provider.get_execution_errors("\0")
    with pytest.raises(SerializationError):
        provider.get_execution_errors(since=NOON.replace(tzinfo=None))
    with pytest.raises(SerializationError):
        provider.get_workflow_subscriptions("\0")
    for limited in (provider.get_runnable_events, provider.get_runnable_instances):
        with pytest.raises(ValueError, match="limit"):
            limited(NOON, -1)
    with pytest.raises(ValueError, match="limit"):
        provider.get_execution_errors(limit=-1)


def test_workflow_subscriptions_are_ordered_by_time() -> None:
    provider = InMemoryPersistenceProvider()
    for workflow, hours in (("mine", 2), ("other", 0), ("mine", 1)):
        provider.create_event_subscription(
            EventSubscription(workflow, 1, "pointer", "paid", "1", NOON + timedelta(hours=hours), external_token="held")
        )
    found = provider.get_workflow_subscriptions("mine")
    assert [it.subscribe_as_of for it in found] == [NOON + timedelta(hours=1), NOON + timedelta(hours=2)]


def test_values_above_the_call_size_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wfe_postgres.codec.json_values.MAX_CALL_BYTES", 2000)
    provider = InMemoryPersistenceProvider()
    pointers = [ExecutionPointer(1, outcome="x" * 800) for _ in range(3)]
    provider.create_new_workflow(WorkflowInstance("order", 1, execution_pointers=pointers[:1]))
    with pytest.raises(SerializationError):
        provider.create_new_workflow(WorkflowInstance("order", 1, execution_pointers=pointers))


def test_workflow_that_postgresql_could_not_read_back_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call stays within its own limit; the workflow has grown over several."""
    monkeypatch.setattr("wfe_postgres.codec.change_tracking.MAX_WORKFLOW_BYTES", 2000)
    provider = InMemoryPersistenceProvider()
    instance = WorkflowInstance("order", 1, execution_pointers=[ExecutionPointer(1, outcome="x" * 800)])
    provider.create_new_workflow(instance)
    instance.execution_pointers.append(ExecutionPointer(1, outcome="x" * 800))
    provider.persist_workflow(instance)
    stored = provider.get_workflow_instance(instance.id)
    instance.data = "x" * 800
    for revision in (instance.revision, None):
        instance.revision = revision
        with pytest.raises(SerializationError, match="read back") as caught:
            provider.persist_workflow(instance)
        assert caught.value.path == "execution_pointers"
    with pytest.raises(SerializationError, match="read back"):
        provider.create_new_workflow(WorkflowInstance("order", 1, data="x" * 2000))
    assert provider.get_workflow_instance(instance.id) == stored


def test_command_lease_of_zero_is_rejected() -> None:
    with pytest.raises(ValueError, match="command_lease"):
        InMemoryPersistenceProvider(command_lease=0)
