"""Saving: after it the stored workflow equals the instance, and a save with subscriptions is one write."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, SerializationError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.support import (
    Conformance,
    at,
    created,
    full_pointer,
    full_workflow,
    has_subscription,
    has_workflow,
    pointer,
    state,
    subscription,
    workflow,
)

WORKFLOW_CHANGES: dict[str, Any] = {
    "workflow_definition_id": "other",
    "version": 99,
    "data": [],
    "name": "renamed",
    "root_workflow_id": "other root",
    "description": "other",
    "reference": "other reference",
    "next_execution": -1,
    "status": WorkflowStatus.TERMINATED,
    "create_time": at(100),
    "complete_time": at(101),
}
POINTER_CHANGES: dict[str, Any] = {
    "step_id": 99,
    "active": True,
    "status": PointerStatus.COMPENSATED,
    "sleep_until": at(100),
    "persistence_data": "other",
    "start_time": at(101),
    "end_time": at(102),
    "event_name": "other",
    "event_key": "other key",
    "event_published": False,
    "event_data": 1.5,
    "step_name": "other step",
    "retry_count": 99,
    "children": [],
    "context_item": [None],
    "predecessor_id": "another",
    "outcome": False,
    "scope": ["only"],
    "extension_attributes": {},
}
POINTER_NULLS = (
    "sleep_until",
    "persistence_data",
    "start_time",
    "end_time",
    "event_name",
    "event_key",
    "event_data",
    "step_name",
    "context_item",
    "predecessor_id",
    "outcome",
)

Pointers = list[ExecutionPointer]
POINTER_LISTS: dict[str, Callable[[Pointers], Pointers]] = {
    "one added at the end": lambda old: [*old, pointer("new")],
    "one added in front": lambda old: [pointer("new"), *old],
    "three added in the middle": lambda old: [*old[:2], *map(pointer, "xyz"), *old[2:]],
    "first removed": lambda old: old[1:],
    "last removed": lambda old: old[:-1],
    "all removed": lambda _: [],
    "all replaced": lambda _: [pointer("new"), pointer("newer")],
    "reversed": lambda old: old[::-1],
    "two exchanged": lambda old: [old[0], old[2], old[1], *old[3:]],
    "last to the front": lambda old: [old[-1], *old[:-1]],
    "one replaced by another object of its id": lambda old: [old[0], full_pointer(old[1].id), *old[2:]],
    "moved, removed, added and changed": lambda old: [old[4], pointer("new"), full_pointer("b"), old[0]],
}

NESTED_CHANGES: dict[str, Callable[[WorkflowInstance], Any]] = {
    "data": lambda it: it.data["order"]["lines"][1].update(price=21),
    "data, one key removed": lambda it: it.data["order"].pop("lines"),
    "persistence_data": lambda it: it.execution_pointers[0].persistence_data["children"].append("c"),
    "event_data": lambda it: it.execution_pointers[0].event_data[1].update(two=3),
    "event_data, 1 to true": lambda it: it.execution_pointers[0].event_data.__setitem__(0, True),
    "context_item": lambda it: it.execution_pointers[2].context_item.update(line=2),
    "children": lambda it: it.execution_pointers[0].children.append("child-3"),
    "scope": lambda it: it.execution_pointers[2].scope.pop(),
    "extension_attributes": lambda it: it.execution_pointers[0].extension_attributes.clear(),
}


class SavingConformance(Conformance):
    """`persist_workflow` and `persist_workflow_with_subscriptions` where nobody else is at work."""

    @pytest.mark.parametrize("field", WORKFLOW_CHANGES)
    def test_a_changed_field_is_stored(self, provider: PersistenceProvider, field: str) -> None:
        """The stored workflow becomes equal to the instance, in every field of it."""
        instance = created(provider, full_workflow())
        setattr(instance, field, WORKFLOW_CHANGES[field])
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    @pytest.mark.parametrize("field", POINTER_CHANGES)
    def test_a_changed_field_of_a_pointer_is_stored(self, provider: PersistenceProvider, field: str) -> None:
        """Changed pointers are updated, in every field of them."""
        instance = created(provider, full_workflow())
        setattr(instance.execution_pointers[2], field, POINTER_CHANGES[field])
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_fields_become_none(self, provider: PersistenceProvider) -> None:
        """What is optional can be taken away again."""
        instance = created(provider, full_workflow())
        for field in ("root_workflow_id", "description", "reference", "next_execution", "complete_time"):
            setattr(instance, field, None)
        for field in POINTER_NULLS:
            setattr(instance.execution_pointers[0], field, None)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    @pytest.mark.parametrize("change", NESTED_CHANGES)
    def test_a_change_deep_inside_is_stored(self, provider: PersistenceProvider, change: str) -> None:
        """A change inside a dict or list counts like any other, though the field is the same object."""
        instance = created(provider, full_workflow())
        NESTED_CHANGES[change](instance)
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        assert stored == instance
        assert repr(stored.execution_pointers) == repr(instance.execution_pointers)

    @pytest.mark.parametrize("change", POINTER_LISTS)
    def test_the_list_of_pointers_is_stored(self, provider: PersistenceProvider, change: str) -> None:
        """New pointers are added, those no longer in the list removed, the order kept."""
        instance = created(provider, workflow(*map(pointer, "abcde")))
        instance.execution_pointers = POINTER_LISTS[change](instance.execution_pointers)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_one_object_is_saved_again_and_again(self, provider: PersistenceProvider) -> None:
        """Each save of the same object, from its creation on, stores what it is then."""
        instance = workflow(*map(pointer, "abcde"))
        provider.create_new_workflow(instance)
        for change in POINTER_LISTS.values():
            instance.execution_pointers = change([*map(pointer, "abcde")])
            instance.data["last"] = len(instance.execution_pointers)
            provider.persist_workflow(instance)
            assert provider.get_workflow_instance(instance.id) == instance

    def test_a_removed_pointer_may_come_back(self, provider: PersistenceProvider) -> None:
        """A pointer that was removed in one save can be added in the next."""
        instance = created(provider, workflow(pointer("a"), pointer("b")))
        removed = instance.execution_pointers.pop(0)
        provider.persist_workflow(instance)
        instance.execution_pointers.append(removed)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_pointers_swap_their_ids(self, provider: PersistenceProvider) -> None:
        """A pointer is known by its id, whichever object carries it."""
        instance = created(provider, workflow(pointer("a"), full_pointer("b")))
        first, second = instance.execution_pointers
        first.id, second.id = second.id, first.id
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_change_of_fold_is_a_change(self, provider: PersistenceProvider) -> None:
        """The two hours of one name in autumn are two moments, though Python calls them equal."""
        early = datetime(2030, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        instance = workflow(pointer("a", sleep_until=early))
        provider.create_new_workflow(instance)
        instance.execution_pointers[0].sleep_until = early.replace(fold=1)
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id).execution_pointers[0].sleep_until
        assert stored == datetime(2030, 10, 27, 1, 30, tzinfo=at(0).tzinfo)

    def test_other_workflows_stay(self, provider: PersistenceProvider) -> None:
        """A save changes nothing of another workflow, pointers of the same ids included."""
        other = created(provider, full_workflow(name="other"))
        instance = created(provider, full_workflow(name="mine"))
        del instance.execution_pointers[0]
        instance.execution_pointers[0].outcome = "changed"
        instance.execution_pointers.append(pointer("b"))
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(other.id) == other

    def test_the_store_keeps_its_own_copy_of_a_save(self, provider: PersistenceProvider) -> None:
        """What the caller does to the object after a save is not stored before the next one."""
        instance = created(provider, workflow())
        instance.data["saved"] = [1]
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        instance.data["saved"].append(2)
        instance.execution_pointers[0].persistence_data["tries"].append(2)
        assert provider.get_workflow_instance(instance.id) == stored

    @pytest.mark.parametrize("revision", [None, 7], ids=["without revision", "with a revision"])
    def test_an_unknown_workflow_is_not_saved(self, provider: PersistenceProvider, revision: int | None) -> None:
        """Unknown id: `WorkflowNotFoundError`, and it is unknown afterwards."""
        instance = workflow(revision=revision)
        before = state(instance)
        with pytest.raises(WorkflowNotFoundError) as caught:
            provider.persist_workflow(instance)
        assert caught.value.workflow_id == instance.id
        assert state(instance) == before
        assert not has_workflow(provider, instance.id)

    def test_a_refused_save_keeps_the_changes_to_come(self, provider: PersistenceProvider) -> None:
        """All or nothing: what a refused save would have changed is stored by the next one that is not."""
        instance = created(provider, workflow(pointer("a"), pointer("b")))
        instance.execution_pointers[0].outcome = "changed"
        instance.execution_pointers[1].outcome = float("nan")
        instance.execution_pointers.insert(0, pointer("new"))
        with pytest.raises(SerializationError):
            provider.persist_workflow(instance)
        instance.execution_pointers[2].outcome = "good"
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_save_with_subscriptions_stores_both(self, provider: PersistenceProvider) -> None:
        """Both are written: the workflow, and each subscription; an empty id becomes a new UUID."""
        instance = created(provider, workflow())
        instance.data = {"waiting": True}
        given, empty = subscription(subscription_data=[1, 2]), subscription(id="", event_key="other")
        provider.persist_workflow_with_subscriptions(instance, [given, empty])
        assert provider.get_workflow_instance(instance.id) == instance
        assert provider.get_subscription(given.id) == given
        assert str(UUID(empty.id)) == empty.id
        assert provider.get_subscription(empty.id) == empty

    def test_a_save_with_no_subscription_is_a_save(self, provider: PersistenceProvider) -> None:
        """An empty list of subscriptions is as good as `persist_workflow`."""
        instance = created(provider, workflow())
        instance.execution_pointers.reverse()
        provider.persist_workflow_with_subscriptions(instance, [])
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_refused_workflow_brings_no_subscription(self, provider: PersistenceProvider) -> None:
        """One transaction: a save that is too late, or of an unknown workflow, writes no subscription."""
        late = created(provider, workflow())
        provider.persist_workflow(provider.get_workflow_instance(late.id))
        winner = provider.get_workflow_instance(late.id)
        late.data = {"late": True}
        cases = ((late, ConcurrencyError), (workflow(), WorkflowNotFoundError))
        for instance, error in cases:
            given, empty = subscription(), subscription(id="")
            with pytest.raises(error):
                provider.persist_workflow_with_subscriptions(instance, [given, empty])
            assert not has_subscription(provider, given.id)
            assert provider.get_subscriptions("paid", "order-1", at(0)) == []
            assert empty.id == ""
        assert provider.get_workflow_instance(late.id) == winner

    def test_a_refused_subscription_brings_no_save(self, provider: PersistenceProvider) -> None:
        """One transaction: a subscription that cannot be stored leaves workflow and objects as they were."""
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.execution_pointers.pop()
        before = state(instance)
        empty, bad = subscription(id=""), subscription(subscription_data={"at": float("inf")})
        with pytest.raises(SerializationError) as caught:
            provider.persist_workflow_with_subscriptions(instance, [empty, bad])
        assert caught.value.path == "subscriptions[1].subscription_data.at"
        assert provider.get_workflow_instance(instance.id) == stored
        assert provider.get_subscriptions("paid", "order-1", at(0)) == []
        assert (state(instance), empty.id) == (before, "")
