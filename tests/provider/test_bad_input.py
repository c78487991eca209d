"""Every refusal of bad input comes before anything is sent, and leaves store and object as they were."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Sql
from tests.provider.databases import contents, statements_of
from wfe_postgres import (
    CommandName,
    EventSubscription,
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    SerializationError,
    WorkflowInstance,
)
from wfe_postgres.testing.conformance.bad_input import (
    BAD_ARGUMENTS,
    BAD_EVENTS,
    BAD_JSON,
    BAD_POINTERS,
    BAD_SUBSCRIPTIONS,
    BAD_WORKFLOWS,
    JSON_FIELDS,
    PLACES,
    circle,
    deep,
)
from wfe_postgres.testing.conformance.refusals import refused
from wfe_postgres.testing.conformance.support import (
    at,
    created,
    event,
    from_now,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider
Change = Callable[[WorkflowInstance], object]


@pytest.fixture
def stored(provider: Provider) -> WorkflowInstance:
    """A workflow that is there, as the store gave it."""
    return created(provider, workflow())


@contextmanager
def nothing_sent(provider: Provider, url: str) -> Iterator[None]:
    """In the block no statement is sent; at its end the store is as it was, to the place of its rows."""
    before = contents(url)
    with statements_of(provider.engine) as sent:
        yield
    assert sent == []
    assert contents(url) == before


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
            for way, place in PLACES.items():
                for path, change in JSON_FIELDS.items():
                    refuse_workflow(provider, stored, in_field(change, place(value)), path + way)


def test_json_in_events_and_subscriptions(provider: Provider, stored: WorkflowInstance, database_url: str) -> None:
    """The same for what they carry."""
    with nothing_sent(provider, database_url):
        for value in BAD_JSON.values():
            for way, place in PLACES.items():
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


# Doubles ---------------------------------------------------------------------------------------------------


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


# Sizes -----------------------------------------------------------------------------------------------------

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
    fits = "x" * (LIMIT - 2)
    narrow.create_event(event(event_data=fits))
    narrow.create_event_subscription(subscription(subscription_data=fits))
    stored = created(narrow, workflow())
    narrow.persist_workflow_with_subscriptions(stored, [subscription(subscription_data=fits)])
    with nothing_sent(narrow, database_url):
        for path, call in (
            ("event_data", lambda: narrow.create_event(event(event_data=fits + "x"))),
            (
                "subscription_data",
                lambda: narrow.create_event_subscription(subscription(subscription_data=fits + "x")),
            ),
            (
                "subscriptions[0].subscription_data",
                lambda: narrow.persist_workflow_with_subscriptions(
                    stored, [subscription(subscription_data=fits + "x")]
                ),
            ),
        ):
            with refused(path):
                call()


def test_the_default_size(provider: Provider, database_url: str) -> None:
    """64 MiB; a value beyond it costs no connection."""
    with nothing_sent(provider, database_url), refused("event_data"):
        provider.create_event(event(event_data="x" * 2**26))


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
    monkeypatch.setattr("wfe_postgres.repositories.base.MAX_CALL_BYTES", 10_000)
    with PostgresPersistenceProvider(database_url, max_payload_bytes=2**30) as provider:
        stored = created(provider, workflow())
        call(provider, stored, 5_000)
        stored = provider.get_workflow_instance(stored.id)
        with nothing_sent(provider, database_url), pytest.raises(SerializationError, match="together"):
            call(provider, stored, 12_000)


# Hostile texts ---------------------------------------------------------------------------------------------

HOSTILE = [
    "%",
    "%s %(id)s %%",
    ":x :id ::text",
    "'",
    "''; DROP TABLE wfc.events; --",
    '"',
    "\\",
    "\\' E'\\x41'",
    "-- comment",
    "/* comment",
    "$1 ? {0} ${x}",
    "new\nline\r\ttab",
    "ä ☃ 𐍈 👩‍👩‍👧 \u202e\ufeff",
    " leading and trailing ",
    "\x01\x1f\x7f\u2028",
    "null",
    "[]",
    "\\u0000",
    "__[POSTCOMPILE_x] __[SCHEMA_wfc]",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_texts(provider: Provider, text: str, sql: Sql) -> None:
    """They work as ids, names, keys, tokens and values, in every call, and are stored as they are."""
    instance = workflow(
        pointer(
            text, step_name=text, event_name=text, children=[text], scope=[text], extension_attributes={text: text}
        ),
        id=text,
        name=text,
        workflow_definition_id=text,
        reference=text,
        description=text,
        root_workflow_id=text,
        data={text: [text, {text: text}]},
        next_execution=1,
    )
    assert provider.create_new_workflow(instance) == text
    assert provider.get_workflow_instance(text) == provider.get_workflow_instance_by_name(text) == instance
    waiting = subscription(workflow_id=text, event_name=text, event_key=text, subscription_data={text: text})
    instance.data = [text]
    provider.persist_workflow_with_subscriptions(instance, [waiting])
    assert provider.get_workflow_instances([text]) == [instance]
    assert provider.get_runnable_instances(at(0)) == [text]
    assert provider.get_subscriptions(text, text, at(0)) == [waiting] == provider.get_workflow_subscriptions(text)
    found = provider.find_workflows(definition_id=text, reference=text, root_workflow_id=text)
    assert [it.id for it in found.items] == [text]

    assert provider.create_event(event(id=text, event_name=text, event_key=text, event_data={text: text})) == text
    assert provider.get_event(text).event_data == {text: text}
    assert provider.get_events(text, text, at(0)) == provider.get_events_since(text, text, at(0)) == [text]
    provider.mark_event_processed(text)

    another = EventSubscription("w", 1, text, text, "key", at(0), id=text)
    provider.create_event_subscription(another)
    assert provider.set_subscription_token(text, text, text, from_now(60))
    assert provider.get_subscription(text).external_worker_id == text
    provider.clear_subscription_token(text, text)
    provider.terminate_subscription(text)

    provider.schedule_command(ScheduledCommand.process_event(text, 1))
    seen: list[str] = []
    assert provider.process_commands(at(0), lambda it: seen.append(it.data)) == 1
    assert seen == [text]
    provider.persist_errors([ExecutionError(text, text, text, error_time=at(0))])
    assert provider.get_execution_errors(text) == [ExecutionError(text, text, text, error_time=at(0))]
    assert provider.next_definition_sequence(text) == 1
    assert sql("SELECT id, name FROM wfc.workflows") == [(text, text)]
    provider.delete_workflow(text)


def test_a_command_name_that_is_text(provider: Provider) -> None:
    """The spelling does as well as the member."""
    provider.schedule_command(ScheduledCommand("ProcessEvent", "e", 1))  # type: ignore[arg-type]
    seen: list[ScheduledCommand] = []
    provider.process_commands(at(0), seen.append)
    assert seen == [ScheduledCommand(CommandName.PROCESS_EVENT, "e", 1)]
