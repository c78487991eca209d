"""Invalid input is rejected before a statement is sent, and the store and the objects are unchanged."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.provider.databases import nothing_sent
from wfe_postgres import PostgresPersistenceProvider, SerializationError, WorkflowInstance
from wfe_postgres.testing.conformance.bad_input import (
    BAD_ARGUMENTS,
    BAD_EVENTS,
    BAD_JSON,
    BAD_POINTERS,
    BAD_SUBSCRIPTIONS,
    BAD_WORKFLOWS,
    JSON_FIELDS,
    NESTINGS,
    circle,
    deep,
)
from wfe_postgres.testing.conformance.refusals import refused
from wfe_postgres.testing.conformance.support import created, event, from_now, pointer, subscription, workflow

Provider = PostgresPersistenceProvider
Change = Callable[[WorkflowInstance], object]


@pytest.fixture
def stored(provider: Provider) -> WorkflowInstance:
    """A stored workflow, as loaded."""
    return created(provider, workflow())


def assert_workflow_rejected(provider: Provider, stored: WorkflowInstance, change: Change, path: str) -> None:
    """Assert that neither a new workflow nor the stored one can be saved with this change."""
    new = workflow()
    change(new)
    with refused(path, new):
        provider.create_new_workflow(new)
    for revision in (stored.revision, None):
        bad = replace(stored, execution_pointers=[replace(it) for it in stored.execution_pointers], revision=revision)
        bad.description = "changed"
        change(bad)
        with refused(path, bad):
            provider.persist_workflow(bad)
        waiting = subscription(id="")
        with refused(path, bad, waiting):
            provider.persist_workflow_with_subscriptions(bad, [waiting])


def setter(field: str, value: Any) -> Change:
    """A change that sets a field of the workflow."""
    return lambda instance: setattr(instance, field, value)


def pointer_setter(field: str, value: Any) -> Change:
    """A change that sets a field of the workflow's second pointer."""
    return lambda instance: setattr(instance.execution_pointers[1], field, value)


def in_field(change: Callable[[WorkflowInstance, Any], None], value: Any) -> Change:
    """A change that stores the value in a JSON field."""
    return lambda instance: change(instance, value)


def test_invalid_json_in_workflows_is_rejected(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """Each kind of invalid value, in each JSON field, at each nesting."""
    with nothing_sent(provider, database_url):
        for value in BAD_JSON.values():
            for suffix, nest in NESTINGS.items():
                for path, change in JSON_FIELDS.items():
                    assert_workflow_rejected(provider, stored, in_field(change, nest(value)), path + suffix)


def test_invalid_json_in_events_and_subscriptions_is_rejected(
    provider: Provider, stored: WorkflowInstance, database_url: str
) -> None:
    """The same for event data and subscription data."""
    with nothing_sent(provider, database_url):
        for value in BAD_JSON.values():
            for suffix, nest in NESTINGS.items():
                bad_event, bad = event(id="", event_data=nest(value)), subscription(subscription_data=nest(value))
                with refused(f"event_data{suffix}", bad_event):
                    provider.create_event(bad_event)
                with refused(f"subscription_data{suffix}", bad):
                    provider.create_event_subscription(bad)
                with refused(f"subscriptions[1].subscription_data{suffix}", stored, bad):
                    provider.persist_workflow_with_subscriptions(stored, [subscription(), bad])


@pytest.mark.parametrize("make", [circle, deep])
def test_circular_or_deeply_nested_json_is_rejected(
    provider: Provider, stored: WorkflowInstance, database_url: str, make: Any
) -> None:
    """A circular reference, and lists nested too deeply for the JSON encoder."""
    value = make()
    with nothing_sent(provider, database_url):
        for call in (
            lambda: provider.create_event(event(event_data=value)),
            lambda: provider.create_event_subscription(subscription(subscription_data=value)),
            lambda: provider.create_new_workflow(workflow(data=value)),
            lambda: provider.persist_workflow(replace(stored, data=value)),
            lambda: provider.create_new_workflow(workflow(pointer("a", outcome=value))),
        ):
            with pytest.raises(SerializationError):
                call()


def test_invalid_fields_of_workflows_and_pointers_are_rejected(
    provider: Provider, stored: WorkflowInstance, database_url: str
) -> None:
    """Naive datetimes, integers out of range, unknown statuses, NUL, surrogates and wrong types."""
    with nothing_sent(provider, database_url):
        for field, value in BAD_WORKFLOWS.values():
            assert_workflow_rejected(provider, stored, setter(field, value), field)
        for field, value in BAD_POINTERS.values():
            assert_workflow_rejected(provider, stored, pointer_setter(field, value), f"execution_pointers[1].{field}")


def test_invalid_fields_of_events_and_subscriptions_are_rejected(provider: Provider, database_url: str) -> None:
    """The same for events and subscriptions."""
    with nothing_sent(provider, database_url):
        for field, value in BAD_EVENTS.values():
            bad_event = event(**{field: value})
            with refused(field, bad_event):
                provider.create_event(bad_event)
        for field, value in BAD_SUBSCRIPTIONS.values():
            bad = subscription(**{field: value})
            with refused(field, bad):
                provider.create_event_subscription(bad)


@pytest.mark.parametrize(("path", "call"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_invalid_arguments_are_rejected(
    provider: Provider, database_url: str, path: str, call: Callable[[Provider], object]
) -> None:
    """Ids, texts and times that are passed as arguments."""
    with nothing_sent(provider, database_url), refused(path):
        call(provider)


MORE_ARGUMENTS: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "delete_workflow": ("id", lambda it: it.delete_workflow("\0")),
    "get_workflow_subscriptions": ("workflow_id", lambda it: it.get_workflow_subscriptions("\0")),
    "get_execution_errors": ("workflow_id", lambda it: it.get_execution_errors("\ud83d")),
    "integer id": ("id", lambda it: it.get_workflow_instance(7)),  # type: ignore[arg-type]
    "id None": ("id", lambda it: it.get_event(None)),  # type: ignore[arg-type]
    "string in place of a list of ids": ("ids[0]", lambda it: it.get_workflow_instances("\0")),
    "integer time": ("as_at", lambda it: it.get_runnable_events(0)),  # type: ignore[arg-type]
    "token None": (
        "token",
        lambda it: it.set_subscription_token("id", None, "w", from_now(1)),  # type: ignore[arg-type]
    ),
    "worker_id None": (
        "worker_id",
        lambda it: it.set_subscription_token("id", "t", None, from_now(1)),  # type: ignore[arg-type]
    ),
    "expiry None": ("expiry", lambda it: it.set_subscription_token("id", "t", "w", None)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("path", "call"), MORE_ARGUMENTS.values(), ids=MORE_ARGUMENTS)
def test_invalid_arguments_of_other_calls_are_rejected(
    provider: Provider, database_url: str, path: str, call: Callable[[Provider], object]
) -> None:
    """Calls that are not part of the interfaces, and arguments of wrong types."""
    with nothing_sent(provider, database_url), refused(path):
        call(provider)


def test_duplicate_ids_in_one_call_are_rejected(
    provider: Provider, stored: WorkflowInstance, database_url: str
) -> None:
    """Two pointers or two subscriptions with the same id; subscriptions without an id get different ids."""
    with nothing_sent(provider, database_url):
        twice = workflow(pointer("a"), pointer("b"), pointer("a"))
        with refused("execution_pointers[2].id", twice):
            provider.create_new_workflow(twice)
        stored.execution_pointers.append(pointer(stored.execution_pointers[0].id))
        with refused(f"execution_pointers[{len(stored.execution_pointers) - 1}].id", stored):
            provider.persist_workflow(stored)
        stored.execution_pointers.pop()
        again = [subscription(id="x"), subscription(id="y"), subscription(id="x")]
        with refused("subscriptions[2].id", stored, *again):
            provider.persist_workflow_with_subscriptions(stored, again)
    anonymous = [subscription(id=""), subscription(id="")]
    provider.persist_workflow_with_subscriptions(stored, anonymous)
    assert anonymous[0].id != anonymous[1].id
    assert "" not in (anonymous[0].id, anonymous[1].id)
