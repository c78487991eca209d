"""Invalid input raises `SerializationError` with its path; nothing is written and the object is unchanged."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import WorkflowInstance
from wfe_postgres.testing.conformance.bad_input import (
    BAD_ARGUMENTS,
    BAD_EVENTS,
    BAD_JSON,
    BAD_POINTERS,
    BAD_SUBSCRIPTIONS,
    BAD_WORKFLOWS,
    JSON_FIELDS,
    NESTINGS,
    TOO_LONG,
    circle,
    deep,
)
from wfe_postgres.testing.conformance.commands import never
from wfe_postgres.testing.conformance.support import (
    Configure,
    Conformance,
    at,
    created,
    event,
    has_event,
    has_subscription,
    has_workflow,
    pointer,
    state,
    subscription,
    workflow,
)

Change = Callable[[WorkflowInstance], object]


@contextmanager
def refused(path: str, *objects: Any) -> Iterator[None]:
    """Check that the block raises `SerializationError` with this path and does not change the objects."""
    before = [state(it) for it in objects]
    with pytest.raises(SerializationError) as caught:
        yield
    assert caught.value.path == path
    assert [state(it) for it in objects] == before


def check_workflow(provider: PersistenceProvider, change: Change, path: str) -> None:
    """Check that the changed workflow is rejected with the path, as a new and as a loaded one."""
    new = workflow()
    original_id = new.id
    change(new)
    with refused(path, new):
        provider.create_new_workflow(new)
    assert not has_workflow(provider, original_id)

    stored = created(provider, workflow())
    loaded = provider.get_workflow_instance(stored.id)
    loaded.description, loaded.execution_pointers[0].outcome = "changed", "changed"
    change(loaded)
    waiting = subscription()
    with refused(path, loaded):
        provider.persist_workflow(loaded)
    with refused(path, loaded, waiting):
        provider.persist_workflow_with_subscriptions(loaded, [waiting])
    assert provider.get_workflow_instance(stored.id) == stored
    assert not has_subscription(provider, waiting.id)


class RefusalConformance(Conformance):
    """`SerializationError` contains the field and the path in it; nothing is written."""

    @pytest.mark.parametrize("value", BAD_JSON.values(), ids=BAD_JSON)
    def test_json_that_cannot_be_stored(self, provider: PersistenceProvider, value: Any) -> None:
        """NaN, NUL, surrogates, non-string keys, types unknown to JSON and integers of 4,001 digits, at any depth."""
        stored = created(provider, workflow())
        for suffix, nest in NESTINGS.items():
            for path, change in JSON_FIELDS.items():
                new, loaded = workflow(), provider.get_workflow_instance(stored.id)
                for it in (new, loaded):
                    change(it, nest(value))
                with refused(path + suffix, new):
                    provider.create_new_workflow(new)
                with refused(path + suffix, loaded):
                    provider.persist_workflow(loaded)
                assert not has_workflow(provider, new.id)
        assert provider.get_workflow_instance(stored.id) == stored

    @pytest.mark.parametrize("value", BAD_JSON.values(), ids=BAD_JSON)
    def test_events_and_subscriptions_that_cannot_be_stored(self, provider: PersistenceProvider, value: Any) -> None:
        """The same values in the data of events and subscriptions."""
        stored = created(provider, workflow())
        for suffix, nest in NESTINGS.items():
            bad = nest(value)
            happened, waiting, good = event(event_data=bad), subscription(subscription_data=bad), subscription()
            with refused(f"event_data{suffix}", happened):
                provider.create_event(happened)
            with refused(f"subscription_data{suffix}", waiting):
                provider.create_event_subscription(waiting)
            with refused(f"subscriptions[1].subscription_data{suffix}", stored, good, waiting):
                provider.persist_workflow_with_subscriptions(stored, [good, waiting])
        assert provider.get_events("paid", "order-1", at(0)) == []
        assert provider.get_subscriptions("paid", "order-1", at(0)) == []

    @pytest.mark.parametrize(("good", "bad"), [(None, float("nan")), ({"1": 1}, {1: 1}), ("a", b"a")])
    def test_a_bad_value_that_looks_like_the_stored_one(
        self, provider: PersistenceProvider, good: Any, bad: Any
    ) -> None:
        """A value that some encoders write like the stored one is detected as a change and rejected."""
        stored = created(provider, workflow(pointer("a"), pointer("b", outcome={"x": good}), data={"x": good}))
        for field, path in (("data", "data.x"), ("outcome", "execution_pointers[1].outcome.x")):
            loaded = provider.get_workflow_instance(stored.id)
            owner = loaded if field == "data" else loaded.execution_pointers[1]
            getattr(owner, field)["x"] = bad
            with refused(path, loaded):
                provider.persist_workflow(loaded)
        assert provider.get_workflow_instance(stored.id) == stored

    @pytest.mark.parametrize("make", [circle, deep])
    def test_json_without_end(self, provider: PersistenceProvider, make: Callable[[], Any]) -> None:
        """A circular reference, and nesting too deep to be decoded."""
        for path in ("data", "execution_pointers[1].outcome"):
            new = workflow()
            JSON_FIELDS[path](new, make())
            with pytest.raises(SerializationError) as caught:
                provider.create_new_workflow(new)
            assert caught.value.path.startswith(path)
            assert not has_workflow(provider, new.id)

    @pytest.mark.parametrize(("field", "value"), BAD_WORKFLOWS.values(), ids=BAD_WORKFLOWS)
    def test_a_field_of_a_workflow(self, provider: PersistenceProvider, field: str, value: Any) -> None:
        """Naive times, numbers out of range and wrong types are rejected with the field's name."""
        check_workflow(provider, lambda it: setattr(it, field, value), field)

    @pytest.mark.parametrize(("field", "value"), BAD_POINTERS.values(), ids=BAD_POINTERS)
    def test_a_field_of_a_pointer(self, provider: PersistenceProvider, field: str, value: Any) -> None:
        """As for the workflow; the path contains the pointer's index."""
        path = f"execution_pointers[1].{field}"
        check_workflow(provider, lambda it: setattr(it.execution_pointers[1], field, value), path)

    def test_ids_in_a_pointers_lists(self, provider: PersistenceProvider) -> None:
        """`children` and `scope` must contain strings."""
        for field in ("children", "scope"):
            for value in (1, None, "\0"):
                path = f"execution_pointers[1].{field}[1]"
                check_workflow(
                    provider,
                    lambda it, field=field, value=value: setattr(  # type: ignore[misc]
                        it.execution_pointers[1], field, ["good", value]
                    ),
                    path,
                )

    def test_two_pointers_of_one_id(self, provider: PersistenceProvider) -> None:
        """Two pointers with the same id in one workflow; the path is that of the second one."""
        check_workflow(provider, lambda it: it.execution_pointers.append(pointer("first")), "execution_pointers[2].id")

    def test_two_subscriptions_of_one_id(self, provider: PersistenceProvider) -> None:
        """Two subscriptions with the same id in one call; nothing is written."""
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.data = "changed"
        twins = [subscription(), subscription(id="same"), subscription(id="same")]
        with refused("subscriptions[2].id", instance, *twins):
            provider.persist_workflow_with_subscriptions(instance, twins)
        assert provider.get_workflow_instance(instance.id) == stored
        assert provider.get_subscriptions("paid", "order-1", at(0)) == []

    def test_several_subscriptions_without_id(self, provider: PersistenceProvider) -> None:
        """Subscriptions with empty ids are not duplicates: each gets its own id."""
        instance = created(provider, workflow())
        empty = [subscription(id=""), subscription(id="")]
        provider.persist_workflow_with_subscriptions(instance, empty)
        assert empty[0].id != empty[1].id
        assert all(has_subscription(provider, it.id) for it in empty)

    @pytest.mark.parametrize(("field", "value"), BAD_EVENTS.values(), ids=BAD_EVENTS)
    def test_a_field_of_an_event(self, provider: PersistenceProvider, field: str, value: Any) -> None:
        """The fields of an event are checked like those of a workflow."""
        happened = event()
        original_id = happened.id
        setattr(happened, field, value)
        with refused(field, happened):
            provider.create_event(happened)
        assert not has_event(provider, original_id)
        assert provider.get_runnable_events(at(9)) == []

    @pytest.mark.parametrize(("field", "value"), BAD_SUBSCRIPTIONS.values(), ids=BAD_SUBSCRIPTIONS)
    def test_a_field_of_a_subscription(self, provider: PersistenceProvider, field: str, value: Any) -> None:
        """The fields of a subscription are checked, alone and with a workflow."""
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.data = "changed"
        waiting = subscription()
        original_id = waiting.id
        setattr(waiting, field, value)
        with refused(field, waiting):
            provider.create_event_subscription(waiting)
        with refused(f"subscriptions[0].{field}", instance, waiting):
            provider.persist_workflow_with_subscriptions(instance, [waiting])
        assert not has_subscription(provider, original_id)
        assert provider.get_workflow_instance(instance.id) == stored

    @pytest.mark.parametrize(("path", "call"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
    def test_an_argument(
        self, provider: PersistenceProvider, path: str, call: Callable[[PersistenceProvider], object]
    ) -> None:
        """Arguments are checked as well: naive `as_at`, `as_of` and `expiry`, invalid ids."""
        held = subscription(id="held", external_token="mine")
        provider.create_event_subscription(held)
        with refused(path, held):
            call(provider)
        assert provider.get_subscription("held") == held
        assert provider.process_commands(at(10**9), never) == 0
        assert self.execution_errors(provider) == []
        assert provider.next_definition_sequence("order") == 1

    def test_an_id_too_long_to_be_indexed(self, provider: PersistenceProvider) -> None:
        """The id of a workflow or pointer exceeds the size of an index entry."""
        new = workflow(id=TOO_LONG, name="short")
        with refused("id", new):
            provider.create_new_workflow(new)
        check_workflow(
            provider,
            lambda it: setattr(it.execution_pointers[1], "id", TOO_LONG),
            "execution_pointers[1].id",
        )

    def test_a_value_that_is_too_big(self, provider: PersistenceProvider, configure: Configure) -> None:
        """The encoding of a JSON value exceeds `max_payload_bytes`, counted in bytes, not in characters."""
        frugal = configure(max_payload_bytes=100)
        fields = {path: change for path, change in JSON_FIELDS.items() if not path.endswith(".key")}
        for character, count in (("x", 98), ("\u00e9", 49), ("\U0001f600", 24)):
            for path, change in fields.items():
                big, fitting = workflow(), workflow()
                change(big, character * (count + 1))
                change(fitting, character * count)
                assert created(frugal, fitting) == fitting
                with refused(path, big):
                    frugal.create_new_workflow(big)
                assert not has_workflow(provider, big.id)
