"""The size limits of a single value and of all values of a call."""

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
def limited(database_url: str) -> Iterator[Provider]:
    """A provider with a small payload limit."""
    with PostgresPersistenceProvider(database_url, max_payload_bytes=LIMIT) as provider:
        yield provider


@pytest.mark.parametrize("text", ["x", "ä", "☃", "𐍈", '"', "\\", "\n"])
@pytest.mark.parametrize(("path", "change"), JSON_FIELDS.items(), ids=JSON_FIELDS)
def test_size_of_a_json_value_is_limited(
    limited: Provider, database_url: str, path: str, change: Callable[[WorkflowInstance, Any], None], text: str
) -> None:
    """A value that encodes to exactly the limit is stored; one byte more is rejected before a statement is sent."""
    fits = text_of_size(text, LIMIT - (8 if path.endswith("key") else 0))
    instance = workflow()
    change(instance, fits)
    limited.create_new_workflow(instance)
    change(instance, fits + "x")
    with nothing_sent(limited, database_url), refused(path.removesuffix(".key"), instance):
        limited.persist_workflow(instance)


def text_of_size(text: str, size: int) -> str:
    """A text whose JSON encoding is exactly `size` bytes."""
    character_size = len(text.encode()) if text not in '"\\\n' else 2
    count, rest = divmod(size - 2, character_size)
    return text * count + "x" * rest


def test_size_of_event_and_subscription_data_is_limited(limited: Provider, database_url: str) -> None:
    """The limit also applies to event data and to subscription data."""
    stored = created(limited, workflow())
    fits = "x" * (LIMIT - 2)
    limited.create_event(event(event_data=fits))
    limited.create_event_subscription(subscription(subscription_data=fits))
    limited.persist_workflow_with_subscriptions(stored, [subscription(subscription_data=fits)])
    big, too_much = event(event_data=fits + "x"), subscription(subscription_data=fits + "x")
    with nothing_sent(limited, database_url):
        with refused("event_data", big):
            limited.create_event(big)
        with refused("subscription_data", too_much):
            limited.create_event_subscription(too_much)
        with refused("subscriptions[0].subscription_data", stored, too_much):
            limited.persist_workflow_with_subscriptions(stored, [too_much])


@pytest.mark.parametrize("make", [Provider, Provider.from_engine, PostgresEventRepository])
def test_size_limits_are_64_and_200_mib_by_default(make: Callable[..., object]) -> None:
    """64 MiB for a value and 200 MiB for a call."""
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
    "description": lambda it, stored, size: it.persist_workflow(replace(stored, description="x" * size)),
    "description of a new workflow": lambda it, stored, size: it.create_new_workflow(workflow(description="x" * size)),
    "errors": lambda it, stored, size: it.persist_errors(
        [ExecutionError("w", "p", "x" * (size // 10)) for _ in range(10)]
    ),
    "event": lambda it, stored, size: it.create_event(event(event_data="x" * size)),
    "subscription": lambda it, stored, size: it.create_event_subscription(subscription(subscription_data="x" * size)),
}


@pytest.mark.parametrize("call", TOGETHER.values(), ids=TOGETHER)
def test_total_size_of_a_call_is_limited(
    database_url: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[Provider, WorkflowInstance, int], object]
) -> None:
    """The limit for the values of one call applies even where `max_payload_bytes` is larger."""
    monkeypatch.setattr("wfe_postgres.codec.json_values.MAX_CALL_BYTES", 10_000)
    with PostgresPersistenceProvider(database_url, max_payload_bytes=2**30) as provider:
        stored = created(provider, workflow())
        call(provider, stored, 5_000)
        stored = provider.get_workflow_instance(stored.id)
        with nothing_sent(provider, database_url), pytest.raises(SerializationError, match="together"):
            call(provider, stored, 12_000)
