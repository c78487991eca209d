"""The conformance suite on the in-memory provider, and what that one has beside it."""

from datetime import UTC, datetime, timedelta

import pytest

from wfe_postgres.contract.models import EventSubscription, ExecutionError, ScheduledCommand
from wfe_postgres.testing import InMemoryPersistenceProvider
from wfe_postgres.testing.conformance import Configure, PersistenceConformance

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class TestMemory(PersistenceConformance):
    """The whole suite."""

    @pytest.fixture
    def provider(self) -> InMemoryPersistenceProvider:
        return InMemoryPersistenceProvider()

    @pytest.fixture
    def configure(self, provider: InMemoryPersistenceProvider) -> Configure:
        return provider.another


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


def test_tokens_expire_by_the_clock_that_was_given() -> None:
    clock = Clock()
    provider = InMemoryPersistenceProvider(clock=clock)
    waiting = provider.create_event_subscription(EventSubscription("workflow", 1, "pointer", "paid", "1", NOON))
    provider.set_subscription_token(waiting, "mine", "worker", NOON + timedelta(seconds=1))
    clock.time = NOON + timedelta(microseconds=999_999)
    assert provider.get_first_open_subscription("paid", "1", NOON) is None
    assert not provider.set_subscription_token(waiting, "other", "rival", NOON + timedelta(hours=1))
    clock.time = NOON + timedelta(seconds=1)
    assert provider.get_first_open_subscription("paid", "1", NOON) is not None
    assert provider.set_subscription_token(waiting, "other", "rival", NOON + timedelta(hours=1))


def test_leases_expire_by_the_clock_that_was_given() -> None:
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


def test_errors_are_found_by_workflow_and_time() -> None:
    provider = InMemoryPersistenceProvider()
    errors = [ExecutionError(name, "p", name, error_time=NOON + timedelta(hours=n)) for n, name in enumerate("abab")]
    provider.persist_errors(errors[::-1])
    assert provider.get_execution_errors() == errors[::-1]
    assert provider.get_execution_errors("a") == [errors[2], errors[0]]
    assert provider.get_execution_errors("a", since=errors[1].error_time) == [errors[2]]
    assert provider.get_execution_errors(limit=1) == [errors[3]]


def test_what_a_workflow_waits_for() -> None:
    provider = InMemoryPersistenceProvider()
    for workflow, hours in (("mine", 2), ("other", 0), ("mine", 1)):
        provider.create_event_subscription(
            EventSubscription(workflow, 1, "pointer", "paid", "1", NOON + timedelta(hours=hours), external_token="held")
        )
    found = provider.get_workflow_subscriptions("mine")
    assert [it.subscribe_as_of for it in found] == [NOON + timedelta(hours=1), NOON + timedelta(hours=2)]


def test_a_lease_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="command_lease"):
        InMemoryPersistenceProvider(command_lease=0)
