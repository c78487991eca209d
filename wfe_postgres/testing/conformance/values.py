"""Values that go in and come back equal: JSON of every kind, text of any script, moments, numbers."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionPointer, PointerStatus, WorkflowStatus
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

BIGGEST = 10**4000 - 1
"""The biggest integer of 4,000 digits."""

JSON_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "0": 0,
    "-1": -1,
    "2**31": 2**31,
    "2**53 + 1": 2**53 + 1,
    "-2**63": -(2**63),
    "2**64 + 1": 2**64 + 1,
    "4,000 digits": BIGGEST,
    "4,000 digits, negative": -BIGGEST,
    "0.1": 0.1,
    "-2.5": -2.5,
    "1.0": 1.0,
    "-0.0": -0.0,
    "1e15": 1e15,
    "1e16": 1e16,
    "123456789012345678.0": 123456789012345678.0,
    "1e22": 1e22,
    "1e23": 1e23,
    "-1e23": -1e23,
    "1e308": 1e308,
    "greatest float": 1.7976931348623157e308,
    "least normal float": 2.2250738585072014e-308,
    "5e-324": 5e-324,
    "1e-7": 1e-7,
    "empty text": "",
    "text that is JSON": '{"not": "an object"}',
    "text with 1e+16": "1e+16, or 1e23",
    "text of digits": "7" * 5000,
    "quotes and backslashes": '"\'\\ \\" /',
    "escape of a NUL": "\\u0000",
    "escape of an escape of a NUL": "\\\\u0000",
    "escape of a surrogate": "\\ud83d",
    "control characters": "".join(map(chr, [*range(1, 32), 127, 128, 159])),
    "line separators": "\r\n\u2028\u2029\u0085",
    "composed and decomposed": "\u00e9 e\u0301",
    "right to left": "\u05d0\u0628\u202e",
    "noncharacters": "\ufdd0\uffff\ufeff\U0001ffff",
    "every plane": "".join(chr(plane * 0x10000 + offset) for plane in range(17) for offset in (0x41, 0xFFFD)),
    "emoji of several characters": "\U0001f469\u200d\U0001f4bb",
    "empty list": [],
    "empty object": {},
    "empty inside": [{}, [], {"": {}}, [[]], {"a": None}, ""],
    "mixed": [None, True, 0, 1.5, "text", [1, [2, [3]]], {"a": {"b": [{"c": None}]}}],
    "null in containers": {"null": None, "list": [None, [None]]},
    "odd keys": {"": 1, " ": 2, "a.b": 3, "\\u0000": 4, "\U0001f600": 5, '"': 6, "1": 7, "__proto__": 8},
    "what looks like an instruction": {"py/object": "os.system", "$type": "x", "__class__": "y"},
    "fifty deep": reduce(lambda inner, _: [inner], range(50), cast(Any, {})),
    "many keys": {str(number): number for number in range(500)},
}

HOSTILE_TEXTS = {
    "percent": "100% %s %(x)s %%",
    "colon": ":x ::text :1",
    "quotes": "'; DROP TABLE workflows; --",
    "double quotes": '"a"',
    "backslash": "\\ \\n \\x41 \\",
    "lines": "a\nb\r\nc\t",
    "braces": "{} {0} {x} ${y}",
    "emoji": "\U0001f600 \U0010fffd",
    "spaces": "  a  ",
    "one space": " ",
}

MOMENTS: dict[str, datetime] = {
    "UTC": datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
    "one microsecond": datetime(2000, 1, 1, 0, 0, 0, 1, UTC),
    "no microseconds": datetime(2000, 1, 1, tzinfo=UTC),
    "east": datetime(2024, 1, 1, 1, 2, 3, 456789, timezone(timedelta(hours=14))),
    "west": datetime(2024, 12, 31, 23, 2, 3, 456789, timezone(-timedelta(hours=11, minutes=30))),
    "odd offset": datetime(1890, 1, 1, 12, 0, 0, 5, timezone(timedelta(hours=0, minutes=19, seconds=32))),
    "daylight saving": datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("America/New_York")),
    "first of two": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "second of two": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "before 1970": datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    "long ago": datetime(1, 1, 1, tzinfo=UTC),
    "far away": datetime.max.replace(tzinfo=UTC),
}


def assert_same(found: Any, expected: Any) -> None:
    """Equal, and a bool where a bool was; a tuple comes back as a list."""
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
    """Store the value in each field that holds users' JSON, and return what came back from each."""
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
    """What can be stored comes back equal to what went in."""

    @pytest.mark.parametrize("value", JSON_VALUES.values(), ids=JSON_VALUES)
    def test_json_comes_back_equal(self, provider: PersistenceProvider, value: Any) -> None:
        """Text of any script, integers and floats come back equal to what went in, in every JSON field."""
        for found in store_everywhere(provider, value):
            assert_same(found, value)

    def test_json_is_saved_equal(self, provider: PersistenceProvider) -> None:
        """A save stores values as exactly as a creation does."""
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
        """A tuple is stored as a list, at any depth; the caller's own stays a tuple."""
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
        """Ids, names, keys and tokens are text like any other, whatever some language reads in them."""
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

    @pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
    def test_a_moment_comes_back_in_utc(self, provider: PersistenceProvider, moment: datetime) -> None:
        """The same instant, in UTC, to the microsecond, from any offset, in every field that holds a time."""
        pointers = [pointer("a", sleep_until=moment, start_time=moment, end_time=moment)]
        loaded = created(provider, workflow(*pointers, create_time=moment, complete_time=moment))
        happened = provider.get_event(provider.create_event(event(event_time=moment)))
        waiting = subscription(subscribe_as_of=moment, external_token="t", external_token_expiry=moment)
        subscribed = provider.get_subscription(provider.create_event_subscription(waiting))
        counts = {}
        for model in (loaded, *loaded.execution_pointers, happened, subscribed):
            times = _times(model)
            counts[type(model).__name__] = len(times)
            for name, found in times.items():
                assert found == moment.astimezone(UTC), name
                assert found.utcoffset() == timedelta(0), name
        assert counts == {"WorkflowInstance": 2, "ExecutionPointer": 3, "Event": 1, "EventSubscription": 2}

    def test_integers_reach_the_ends_of_their_columns(self, provider: PersistenceProvider) -> None:
        """32 bits for `version`, `step_id` and `retry_count`, 64 for milliseconds."""
        for small, big in ((2**31 - 1, 2**63 - 1), (-(2**31), -(2**63))):
            instance = workflow(pointer("a", step_id=small, retry_count=small), version=small, next_execution=big)
            assert created(provider, instance) == instance
            waiting = subscription(step_id=small)
            assert provider.get_subscription(provider.create_event_subscription(waiting)) == waiting

    def test_statuses_come_back_as_members(self, provider: PersistenceProvider) -> None:
        """Every status is stored, and comes back as a member of its enum."""
        pointers = [pointer(status.name, status=status) for status in PointerStatus]
        for status in WorkflowStatus:
            loaded = created(provider, workflow(*pointers, status=status))
            assert loaded.status is status
            assert [it.status for it in loaded.execution_pointers] == list(PointerStatus)
            assert all(type(it.status) is PointerStatus for it in loaded.execution_pointers)

    def test_long_lists_of_pointers(self, provider: PersistenceProvider) -> None:
        """A thousand pointers come back in their order, and so they do after a save in the reverse order."""
        instance = full_workflow(execution_pointers=[pointer(f"{n % 10}-{n}", retry_count=n) for n in range(1000)])
        provider.create_new_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
        instance.execution_pointers.reverse()
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
