"""Property-based tests of round trips, with hypothesis."""

from datetime import UTC
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionPointer
from wfe_postgres.testing.conformance.support import Conformance, created, event, pointer, workflow
from wfe_postgres.testing.conformance.values import assert_same, store_everywhere

on_one_store: settings = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)
"""The examples of a test share one store; each creates its own workflows."""

texts: st.SearchStrategy[str] = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers: st.SearchStrategy[Any] = (
    st.integers() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)
pointer_ids: st.SearchStrategy[str] = st.sampled_from("abcdef")
indexes: st.SearchStrategy[int] = st.integers(0, 6)
operations: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("add"), pointer_ids, indexes),
    st.tuples(st.just("change"), indexes, json_values),
    st.tuples(st.just("remove"), indexes, st.none()),
    st.tuples(st.just("move"), indexes, indexes),
    st.tuples(st.just("save"), st.none(), st.none()),
    st.tuples(st.just("load"), st.none(), st.none()),
)


def apply(pointers: list[ExecutionPointer], operation: str, first: Any, second: Any) -> None:
    """Apply the operation to the list if possible."""
    if operation == "add" and all(it.id != first for it in pointers):
        pointers.insert(second, pointer(first))
    elif operation == "change" and first < len(pointers):
        pointers[first].persistence_data["tries"].append(second)
    elif operation == "remove" and first < len(pointers):
        del pointers[first]
    elif operation == "move" and first < len(pointers):
        pointers.insert(second, pointers.pop(first))


class PropertyConformance(Conformance):
    """Arbitrary values and arbitrary histories."""

    @on_one_store
    @given(value=json_values)
    def test_any_json_comes_back_equal(self, provider: PersistenceProvider, value: Any) -> None:
        """Any JSON value is returned unchanged from any JSON field."""
        for found in store_everywhere(provider, value):
            assert_same(found, value)

    @on_one_store
    @given(before=json_values, after=json_values)
    def test_any_change_of_json_is_stored(self, provider: PersistenceProvider, before: Any, after: Any) -> None:
        """A change from any JSON value to any other is stored."""
        instance = created(provider, workflow(pointer("a", outcome=before), data=before))
        instance.data = instance.execution_pointers[0].outcome = after
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        assert_same([stored.data, stored.execution_pointers[0].outcome], [after, after])

    @on_one_store
    @given(timestamp=st.datetimes(timezones=st.timezones() | st.just(UTC)))
    def test_any_timestamp_comes_back(self, provider: PersistenceProvider, timestamp: Any) -> None:
        """Any timestamp that UTC can represent is returned as the same instant."""
        try:
            expected = timestamp.astimezone(UTC)
        except OverflowError:
            return
        stored = provider.get_event(provider.create_event(event(event_time=timestamp)))
        assert (stored.event_time, stored.event_time.utcoffset()) == (expected, expected.utcoffset())

    @on_one_store
    @given(history=st.lists(operations, max_size=25))
    def test_any_history_of_pointers(self, provider: PersistenceProvider, history: Any) -> None:
        """Pointers are stored correctly after any sequence of additions, changes, removals and moves."""
        instance = workflow(pointer("a"), pointer("b"))
        provider.create_new_workflow(instance)
        for operation, first, second in [*history, ("save", None, None)]:
            if operation == "save":
                provider.persist_workflow(instance)
                assert provider.get_workflow_instance(instance.id) == instance
            elif operation == "load":
                instance = provider.get_workflow_instance(instance.id)
            else:
                apply(instance.execution_pointers, operation, first, second)
