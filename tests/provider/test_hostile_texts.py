"""Texts with a meaning in SQL, in psycopg or in format strings are stored as plain text."""

import pytest

from tests.conftest import Sql
from wfe_postgres import (
    CommandName,
    EventSubscription,
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
)
from wfe_postgres.testing.conformance.support import at, event, from_now, pointer, subscription, workflow

Provider = PostgresPersistenceProvider


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


def hostile_workflow(text: str) -> WorkflowInstance:
    """A workflow with the text in every text field and JSON field."""
    return workflow(
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


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_texts_are_stored_unchanged(provider: Provider, text: str, sql: Sql) -> None:
    """Each text is stored unchanged as an id, name, key, token and value, in every call."""
    instance = hostile_workflow(text)
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

    other = EventSubscription("w", 1, text, text, "key", at(0), id=text)
    provider.create_event_subscription(other)
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


def test_command_name_as_a_string_is_accepted(provider: Provider) -> None:
    """The value of a CommandName is accepted in place of the member."""
    provider.schedule_command(ScheduledCommand("ProcessEvent", "e", 1))  # type: ignore[arg-type]
    seen: list[ScheduledCommand] = []
    provider.process_commands(at(0), seen.append)
    assert seen == [ScheduledCommand(CommandName.PROCESS_EVENT, "e", 1)]
