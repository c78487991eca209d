"""Every refusal of bad input comes before anything is sent, and leaves store and object as they were."""

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
    """A workflow that is there, as the store gave it."""
    return created(provider, workflow())


def refuse_workflow(provider: Provider, stored: WorkflowInstance, change: Change, path: str) -> None:
    """Neither a new workflow nor the stored one can be saved with this change."""
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
    """Sets a field of the workflow."""
    return lambda instance: setattr(instance, field, value)


def pointer_setter(field: str, value: Any) -> Change:
    """Sets a field of its second pointer."""
    return lambda instance: setattr(instance.execution_pointers[1], field, value)


def in_field(change: Callable[[WorkflowInstance, Any], None], value: Any) -> Change:
    """Puts the value into a field that holds JSON."""
    return lambda instance: change(instance, value)


def test_json_in_workflows(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """Each kind of bad value, in each field that holds JSON, at each depth."""
    with nothing_sent(provider, database_url):
        for value in BAD_JSON.values():
            for way, place in NESTINGS.items():
                for path, change in JSON_FIELDS.items():
                    refuse_workflow(provider, stored, in_field(change, place(value)), path + way)


def test_json_in_events_and_subscriptions(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """The same for what they carry."""
    with nothing_sent(provider, database_url):
        for value in BAD_JSON.values():
            for way, place in NESTINGS.items():
                bad_event, bad = event(id="", event_data=place(value)), subscription(subscription_data=place(value))
                with refused(f"event_data{way}", bad_event):
                    provider.create_event(bad_event)
                with refused(f"subscription_data{way}", bad):
                    provider.create_event_subscription(bad)
                with refused(f"subscriptions[1].subscription_data{way}", stored, bad):
                    provider.persist_workflow_with_subscriptions(stored, [subscription(), bad])


@pytest.mark.parametrize("make", [circle, deep])
def test_endless_json(provider: Provider, stored: WorkflowInstance, database_url: str, make: Any) -> None:
    """A circle, and a list in a list in a list ..."""
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


def test_fields_of_workflows_and_pointers(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """Naive times, numbers out of range, statuses that are none, NUL, surrogates, types that do not fit."""
    with nothing_sent(provider, database_url):
        for field, value in BAD_WORKFLOWS.values():
            refuse_workflow(provider, stored, setter(field, value), field)
        for field, value in BAD_POINTERS.values():
            refuse_workflow(provider, stored, pointer_setter(field, value), f"execution_pointers[1].{field}")


def test_fields_of_events_and_subscriptions(provider: Provider, database_url: str) -> None:
    """The same for theirs."""
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
def test_arguments(provider: Provider, database_url: str, path: str, call: Callable[[Provider], object]) -> None:
    """What a call is given beside objects."""
    with nothing_sent(provider, database_url), refused(path):
        call(provider)


MORE_ARGUMENTS: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "delete_workflow": ("id", lambda it: it.delete_workflow("\0")),
    "get_workflow_subscriptions": ("workflow_id", lambda it: it.get_workflow_subscriptions("\0")),
    "get_execution_errors": ("workflow_id", lambda it: it.get_execution_errors("\ud83d")),
    "an id that is no text": ("id", lambda it: it.get_workflow_instance(7)),  # type: ignore[arg-type]
    "an id that is None": ("id", lambda it: it.get_event(None)),  # type: ignore[arg-type]
    "ids that are one text": ("ids[0]", lambda it: it.get_workflow_instances("\0")),
    "a time that is a number": ("as_at", lambda it: it.get_runnable_events(0)),  # type: ignore[arg-type]
    "a token that is None": (
        "token",
        lambda it: it.set_subscription_token("id", None, "w", from_now(1)),  # type: ignore[arg-type]
    ),
    "a worker that is None": (
        "worker_id",
        lambda it: it.set_subscription_token("id", "t", None, from_now(1)),  # type: ignore[arg-type]
    ),
    "no expiry": ("expiry", lambda it: it.set_subscription_token("id", "t", "w", None)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("path", "call"), MORE_ARGUMENTS.values(), ids=MORE_ARGUMENTS)
def test_more_arguments(provider: Provider, database_url: str, path: str, call: Callable[[Provider], object]) -> None:
    """Of the calls beyond the interfaces, and of types that do not fit."""
    with nothing_sent(provider, database_url), refused(path):
        call(provider)


def test_doubles_in_one_call(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """Two pointers or two subscriptions of one id; of subscriptions without an id each gets its own."""
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
