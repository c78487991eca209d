"""How much one value, and one call, may carry."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.provider.databases import nothing_sent
from wfe_postgres import (
    ExecutionError,
    PostgresEventRepository,
    PostgresPersistenceProvider,
    SerializationError,
    WorkflowInstance,
)
from wfe_postgres.codec import json_values
from wfe_postgres.testing.conformance.bad_input import JSON_FIELDS
from wfe_postgres.testing.conformance.refusals import refused
from wfe_postgres.testing.conformance.support import created, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider
LIMIT = 200


@pytest.fixture
def narrow(database_url: str) -> Iterator[Provider]:
    """A provider that takes little."""
    with PostgresPersistenceProvider(database_url, max_payload_bytes=LIMIT) as provider:
        yield provider


@pytest.mark.parametrize("text", ["x", "ä", "☃", "𐍈", '"', "\\", "\n"])
@pytest.mark.parametrize(("path", "change"), JSON_FIELDS.items(), ids=JSON_FIELDS)
def test_the_size_of_a_value(
    narrow: Provider, database_url: str, path: str, change: Callable[[WorkflowInstance, Any], None], text: str
) -> None:
    """What encodes to exactly the limit is stored; one byte more is refused."""
    fits = filled(text, LIMIT - (8 if path.endswith("key") else 0))
    instance = workflow()
    change(instance, fits)
    narrow.create_new_workflow(instance)
    change(instance, fits + "x")
    with nothing_sent(narrow, database_url), refused(path.removesuffix(".key"), instance):
        narrow.persist_workflow(instance)


def filled(text: str, size: int) -> str:
    """A text whose JSON takes exactly `size` bytes."""
    each = len(text.encode()) if text not in '"\\\n' else 2
    count, rest = divmod(size - 2, each)
    return text * count + "x" * rest


def test_the_size_of_events_and_subscriptions(narrow: Provider, database_url: str) -> None:
    """The same limit."""
    stored = created(narrow, workflow())
    fits = "x" * (LIMIT - 2)
    narrow.create_event(event(event_data=fits))
    narrow.create_event_subscription(subscription(subscription_data=fits))
    narrow.persist_workflow_with_subscriptions(stored, [subscription(subscription_data=fits)])
    big, too_much = event(event_data=fits + "x"), subscription(subscription_data=fits + "x")
    with nothing_sent(narrow, database_url):
        with refused("event_data", big):
            narrow.create_event(big)
        with refused("subscription_data", too_much):
            narrow.create_event_subscription(too_much)
        with refused("subscriptions[0].subscription_data", stored, too_much):
            narrow.persist_workflow_with_subscriptions(stored, [too_much])


@pytest.mark.parametrize("make", [Provider, Provider.from_engine, PostgresEventRepository])
def test_the_default_sizes(make: Callable[..., object]) -> None:
    """64 MiB a value, 200 MiB a call."""
    assert inspect.signature(make).parameters["max_payload_bytes"].default == 64 * 2**20
    assert json_values.MAX_CALL_BYTES == 200 * 2**20


TOGETHER: dict[str, Callable[[Provider, WorkflowInstance, int], object]] = {
    "data and pointers": lambda it, stored, size: it.create_new_workflow(
        workflow(pointer("a", outcome="x" * (size // 2)), data="x" * (size // 2))
    ),
    "pointers": lambda it, stored, size: it.persist_workflow(
        replace(stored, execution_pointers=[pointer(f"{n}", outcome="x" * (size // 10)) for n in range(10)])
    ),
    "subscriptions": lambda it, stored, size: it.persist_workflow_with_subscriptions(
        stored, [subscription(subscription_data="x" * (size // 10)) for _ in range(10)]
    ),
    "a description": lambda it, stored, size: it.persist_workflow(replace(stored, description="x" * size)),
    "a new description": lambda it, stored, size: it.create_new_workflow(workflow(description="x" * size)),
    "errors": lambda it, stored, size: it.persist_errors(
        [ExecutionError("w", "p", "x" * (size // 10)) for _ in range(10)]
    ),
    "an event": lambda it, stored, size: it.create_event(event(event_data="x" * size)),
    "a subscription": lambda it, stored, size: it.create_event_subscription(subscription(subscription_data="x" * size)),
}


@pytest.mark.parametrize("call", TOGETHER.values(), ids=TOGETHER)
def test_the_size_of_a_call(
    database_url: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[Provider, WorkflowInstance, int], object]
) -> None:
    """The values of one call together may take 200 MiB, whatever one alone may."""
    monkeypatch.setattr("wfe_postgres.codec.json_values.MAX_CALL_BYTES", 10_000)
    with PostgresPersistenceProvider(database_url, max_payload_bytes=2**30) as provider:
        stored = created(provider, workflow())
        call(provider, stored, 5_000)
        stored = provider.get_workflow_instance(stored.id)
        with nothing_sent(provider, database_url), pytest.raises(SerializationError, match="together"):
            call(provider, stored, 12_000)
