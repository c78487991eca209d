"""Shared parts of the suite: fixtures to override, and factories for test objects."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar, cast

import pytest

from wfe_postgres.contract.errors import (
    EventNotFoundError,
    SubscriptionNotFoundError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import (
    CommandName,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)

_Result = TypeVar("_Result")

TIMEOUT = 30.0
"""Seconds after which a waiting test fails."""

EPOCH = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
"""The reference time of the tests; `at(0)`."""


class Configure(Protocol):
    """Creates a provider on the same store with other settings."""

    def __call__(self, *, command_lease: float = ..., max_payload_bytes: int = ...) -> PersistenceProvider: ...


class Conformance:
    """Base class of the suite. Override `provider`, and optionally the other members, to test a provider."""

    @pytest.fixture
    def provider(self) -> PersistenceProvider:
        """The provider under test, on an empty store. Must be overridden."""
        raise NotImplementedError("override the fixture `provider` to return a provider on an empty store")

    @pytest.fixture
    def configure(self) -> Configure:
        """A factory for further providers on the same store, with the keyword arguments of `Configure`.

        Override it if the provider has these settings; otherwise the tests that need them are skipped.
        """
        pytest.skip("the fixture `configure` is not overridden")

    def execution_errors(self, provider: PersistenceProvider) -> list[ExecutionError]:
        """All stored errors, newest first. Override it if the provider has no method `get_execution_errors`."""
        return cast(Any, provider).get_execution_errors()  # type: ignore[no-any-return]


@dataclass
class Outcome:
    """The outcome of a concurrent call: its result or its exception."""

    result: Any = None
    error: BaseException | None = None


def race(calls: Sequence[Callable[[], Any]]) -> list[Outcome]:
    """Run the calls concurrently, each in its own thread, and return their outcomes in the same order."""
    outcomes = [Outcome() for _ in calls]
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any], outcome: Outcome) -> None:
        try:
            start.wait(TIMEOUT)
            outcome.result = call()
        except BaseException as error:
            outcome.error = error

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in zip(calls, outcomes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), f"a call did not return within {TIMEOUT} seconds"
    return outcomes


def results(outcomes: Sequence[Outcome]) -> list[Any]:
    """The results of the outcomes; raises the first exception."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.result for outcome in outcomes]


def eventually(call: Callable[[], _Result]) -> _Result:
    """Repeat the call until its result is truthy."""
    deadline = monotonic() + TIMEOUT
    while not (result := call()):
        assert monotonic() < deadline, f"no result within {TIMEOUT} seconds"
        sleep(0.01)
    return result


def at(seconds: float) -> datetime:
    """The time `seconds` after `EPOCH`."""
    return EPOCH + timedelta(seconds=seconds)


def ms(seconds: float) -> int:
    """`at(seconds)` in milliseconds since the Unix epoch."""
    return round(at(seconds).timestamp() * 1000)


def from_now(seconds: float) -> datetime:
    """The current time plus `seconds`."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def workflow(*pointers: ExecutionPointer, **values: Any) -> WorkflowInstance:
    """Create a workflow with the given pointers, or with two default ones."""
    return WorkflowInstance(
        **{
            "workflow_definition_id": "order",
            "version": 1,
            "data": {"order": {"lines": [{"price": 10}, {"price": 20}]}},
            "execution_pointers": list(pointers) or [pointer("first"), pointer("second")],
            "create_time": at(0),
            **values,
        }
    )


def pointer(id: str, **values: Any) -> ExecutionPointer:
    """Create a pointer with mutable `persistence_data`."""
    return ExecutionPointer(**{"step_id": 1, "id": id, "persistence_data": {"tries": [1]}, **values})


def full_pointer(id: str) -> ExecutionPointer:
    """Create a pointer with a non-default value in every field."""
    return ExecutionPointer(
        7,
        id=id,
        active=False,
        status=PointerStatus.WAITING_FOR_EVENT,
        sleep_until=at(1),
        persistence_data={"children": ["a", "b"]},
        start_time=at(2),
        end_time=at(3),
        event_name="paid",
        event_key="order-1",
        event_published=True,
        event_data=[1, {"two": 2}],
        step_name="wait for payment",
        retry_count=3,
        children=["child-1", "child-2"],
        context_item={"line": 1},
        predecessor_id="before",
        outcome="paid",
        scope=["outer", "inner"],
        extension_attributes={"colour": "blue"},
    )


def full_workflow(**values: Any) -> WorkflowInstance:
    """Create a workflow with a non-default value in every field and three pointers."""
    return workflow(
        full_pointer("b"),
        pointer("a"),
        full_pointer("c"),
        **{
            "version": 3,
            "name": "order-of-today",
            "root_workflow_id": "root",
            "description": "an order",
            "reference": "A-17",
            "next_execution": ms(5),
            "status": WorkflowStatus.SUSPENDED,
            "complete_time": at(9),
            **values,
        },
    )


def event(**values: Any) -> Event:
    """Create an event."""
    return Event(**{"event_name": "paid", "event_key": "order-1", "event_time": at(0), **values})


def subscription(**values: Any) -> EventSubscription:
    """Create an open subscription."""
    return EventSubscription(
        **{
            "workflow_id": "workflow-1",
            "step_id": 1,
            "execution_pointer_id": "first",
            "event_name": "paid",
            "event_key": "order-1",
            "subscribe_as_of": at(0),
            **values,
        }
    )


def command(data: str, seconds: float = 0, name: CommandName = CommandName.PROCESS_WORKFLOW) -> ScheduledCommand:
    """Create a command that is due at `at(seconds)`."""
    return ScheduledCommand(name, data, ms(seconds))


def created(provider: PersistenceProvider, instance: WorkflowInstance) -> WorkflowInstance:
    """Store the instance and load it."""
    return provider.get_workflow_instance(provider.create_new_workflow(instance))


def state(model: Any) -> dict[str, Any]:
    """All fields of the object, including those excluded from equality, and the fields of its pointers."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    if "execution_pointers" in values:
        values["execution_pointers"] = [state(it) for it in values["execution_pointers"]]
    return values


def has_workflow(provider: PersistenceProvider, id: str) -> bool:
    """Whether the store contains the workflow."""
    return _found(provider.get_workflow_instance, id, WorkflowNotFoundError)


def has_event(provider: PersistenceProvider, id: str) -> bool:
    """Whether the store contains the event."""
    return _found(provider.get_event, id, EventNotFoundError)


def has_subscription(provider: PersistenceProvider, id: str) -> bool:
    """Whether the store contains the subscription."""
    return _found(provider.get_subscription, id, SubscriptionNotFoundError)


def _found(get: Callable[[str], object], id: str, missing: type[Exception]) -> bool:
    try:
        get(id)
    except missing:
        return False
    return True
