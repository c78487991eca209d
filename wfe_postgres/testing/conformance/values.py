"""Round trips of values: JSON, text, timestamps and numbers."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import JSON_NULL, ExecutionPointer, PointerStatus, WorkflowStatus
from wfe_postgres.testing.conformance.sample_values import HOSTILE_TEXTS, JSON_VALUES, TIMESTAMPS
from wfe_postgres.testing.conformance.support import (
    TIMEOUT,
    Conformance,
    at,
    command,
    created,
    event,
    from_now,
    full_workflow,
    pointer,
    subscription,
    workflow,
)


def assert_same(found: Any, expected: Any) -> None:
    """Check that the values are equal, including bool types; a tuple is returned as a list."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert isinstance(found, bool) == isinstance(expected, bool)
        assert found == expected


def store_everywhere(provider: PersistenceProvider, value: Any) -> list[Any]:
    """Store the value in each JSON field and return the loaded values."""
    full = ExecutionPointer(
        1,
        persistence_data=value,
        event_data=value,
        context_item=value,
        outcome=value,
        extension_attributes={"key": value},
    )
    loaded = created(provider, workflow(full, data=value))
    [back] = loaded.execution_pointers
    subscribed = provider.create_event_subscription(subscription(subscription_data=value))
    return [
        loaded.data,
        back.persistence_data,
        back.event_data,
        back.context_item,
        back.outcome,
        back.extension_attributes["key"],
        provider.get_event(provider.create_event(event(event_data=value))).event_data,
        provider.get_subscription(subscribed).subscription_data,
    ]


def _times(model: Any) -> dict[str, datetime]:
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    return {name: value for name, value in values.items() if isinstance(value, datetime)}


class ValueConformance(Conformance):
    """Valid values are returned unchanged."""

    @pytest.mark.parametrize("value", JSON_VALUES.values(), ids=JSON_VALUES)
    def test_json_comes_back_equal(self, provider: PersistenceProvider, value: Any) -> None:
        """Text, integers, floats and containers are returned unchanged from every JSON field."""
        for found in store_everywhere(provider, value):
            assert_same(found, value)

    def test_json_is_saved_equal(self, provider: PersistenceProvider) -> None:
        """A save stores JSON values unchanged."""
        instance = created(provider, workflow(*(pointer(name) for name in JSON_VALUES)))
        instance.data = JSON_VALUES
        for it in instance.execution_pointers:
            it.persistence_data = it.outcome = JSON_VALUES[it.id]
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        assert_same(stored.data, JSON_VALUES)
        for it in stored.execution_pointers:
            assert_same([it.persistence_data, it.outcome], [JSON_VALUES[it.id]] * 2)

    def test_a_tuple_is_stored_as_a_list(self, provider: PersistenceProvider) -> None:
        """A tuple is stored as a list at any depth; the caller's object is unchanged."""
        value = (1, (2, [3, (4,)]), {"a": (), "b": ("c",)})
        for found in store_everywhere(provider, value):
            assert_same(found, [1, [2, [3, [4]]], {"a": [], "b": ["c"]}])
        instance = workflow(pointer("a", children=("x", "y"), scope=("z",)), data=value)
        loaded = created(provider, instance)
        assert instance.data is value
        assert (loaded.execution_pointers[0].children, loaded.execution_pointers[0].scope) == (
            ["x", "y"],
            ["z"],
        )

    @pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
    def test_any_text_may_be_an_id(self, provider: PersistenceProvider, text: str) -> None:
        """Ids, names, keys and tokens may contain characters that are special in SQL or templates."""
        ours = workflow(pointer(text, step_name=text, scope=[text]), id=text, name=f"{text}!", reference=text)
        assert created(provider, ours) == ours
        ours.execution_pointers[0].outcome = text
        happened = event(id=text, event_name=text, event_key=text)
        waiting = subscription(id=text, event_name=text, event_key=text, execution_pointer_id=text)
        provider.persist_workflow_with_subscriptions(ours, [waiting])
        provider.create_event(happened)
        provider.schedule_command(command(text))
        assert provider.get_workflow_instance_by_name(f"{text}!") == ours
        assert provider.get_workflow_instances([text]) == [ours]
        assert provider.get_events(text, text, at(0)) == [text]
        assert provider.get_subscriptions(text, text, at(0)) == [waiting]
        assert provider.set_subscription_token(text, text, text, from_now(TIMEOUT)) is True
        provider.clear_subscription_token(text, text)
        handled: list[str] = []
        provider.process_commands(at(0), lambda it: handled.append(it.data))
        assert handled == [text]
        assert provider.next_definition_sequence(text) == 1

    @pytest.mark.parametrize("timestamp", TIMESTAMPS.values(), ids=TIMESTAMPS)
    def test_a_timestamp_comes_back_in_utc(self, provider: PersistenceProvider, timestamp: datetime) -> None:
        """Every datetime field returns the same instant in UTC, to the microsecond, for any UTC offset."""
        pointers = [pointer("a", sleep_until=timestamp, start_time=timestamp, end_time=timestamp)]
        loaded = created(provider, workflow(*pointers, create_time=timestamp, complete_time=timestamp))
        happened = provider.get_event(provider.create_event(event(event_time=timestamp)))
        waiting = subscription(subscribe_as_of=timestamp, external_token="t", external_token_expiry=timestamp)
        subscribed = provider.get_subscription(provider.create_event_subscription(waiting))
        counts = {}
        for model in (loaded, *loaded.execution_pointers, happened, subscribed):
            times = _times(model)
            counts[type(model).__name__] = len(times)
            for name, found in times.items():
                assert found == timestamp.astimezone(UTC), name
                assert found.utcoffset() == timedelta(0), name
        assert counts == {"WorkflowInstance": 2, "ExecutionPointer": 3, "Event": 1, "EventSubscription": 2}

    def test_integers_reach_the_ends_of_their_columns(self, provider: PersistenceProvider) -> None:
        """`version`, `step_id` and `retry_count` have 31 bits, `next_execution` has 64."""
        for small, big in ((2**31 - 1, 2**63 - 1), (0, -(2**63))):
            instance = workflow(pointer("a", step_id=small, retry_count=small), version=small, next_execution=big)
            assert created(provider, instance) == instance
            waiting = subscription(step_id=small)
            assert provider.get_subscription(provider.create_event_subscription(waiting)) == waiting

    def test_json_null_comes_back_as_none(self, provider: PersistenceProvider) -> None:
        """`JSON_NULL` is stored in every optional JSON field; a load returns None for it, as for SQL NULL."""
        nulls = dict.fromkeys(["persistence_data", "event_data", "context_item", "outcome"], JSON_NULL)
        instance = created(provider, workflow(pointer("a", **nulls), pointer("b", outcome=1)))
        assert instance == workflow(
            pointer("a", persistence_data=None), pointer("b", outcome=1), id=instance.id, name=instance.name
        )
        instance.execution_pointers[1].outcome = JSON_NULL
        waiting = subscription(subscription_data=JSON_NULL, workflow_id=instance.id)
        provider.persist_workflow_with_subscriptions(instance, [waiting])
        instance.execution_pointers[1].outcome = None
        assert provider.get_workflow_instance(instance.id) == instance
        assert provider.get_subscription(waiting.id).subscription_data is None
        waiting.id = provider.create_event_subscription(subscription(subscription_data=JSON_NULL))
        assert provider.get_subscription(waiting.id).subscription_data is None

    def test_statuses_come_back_as_members(self, provider: PersistenceProvider) -> None:
        """Every status is stored and returned as an enum member."""
        pointers = [pointer(status.name, status=status) for status in PointerStatus]
        for status in WorkflowStatus:
            loaded = created(provider, workflow(*pointers, status=status))
            assert loaded.status is status
            assert [it.status for it in loaded.execution_pointers] == list(PointerStatus)
            assert all(type(it.status) is PointerStatus for it in loaded.execution_pointers)

    def test_long_lists_of_pointers(self, provider: PersistenceProvider) -> None:
        """The order of a thousand pointers is kept, also after a save in reverse order."""
        instance = full_workflow(execution_pointers=[pointer(f"{n % 10}-{n}", retry_count=n) for n in range(1000)])
        provider.create_new_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
        instance.execution_pointers.reverse()
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
