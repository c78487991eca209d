"""Saving: the stored workflow equals the instance, and a save with subscriptions is atomic."""

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, SerializationError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.testing.conformance.changes import (
    NESTED_CHANGES,
    POINTER_CHANGES,
    POINTER_LISTS,
    POINTER_NULLS,
    WORKFLOW_CHANGES,
)
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


class SavingConformance(Conformance):
    """`persist_workflow` and `persist_workflow_with_subscriptions` without concurrency."""

    @pytest.mark.parametrize("field", WORKFLOW_CHANGES)
    def test_a_changed_field_is_stored(self, provider: PersistenceProvider, field: str) -> None:
        """A change of any field of the workflow is stored."""
        instance = created(provider, full_workflow())
        setattr(instance, field, WORKFLOW_CHANGES[field])
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    @pytest.mark.parametrize("field", POINTER_CHANGES)
    def test_a_changed_field_of_a_pointer_is_stored(self, provider: PersistenceProvider, field: str) -> None:
        """A change of any field of a pointer is stored."""
        instance = created(provider, full_workflow())
        setattr(instance.execution_pointers[2], field, POINTER_CHANGES[field])
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_fields_become_none(self, provider: PersistenceProvider) -> None:
        """Optional fields can be set to None."""
        instance = created(provider, full_workflow())
        for field in ("root_workflow_id", "description", "reference", "next_execution", "complete_time"):
            setattr(instance, field, None)
        for field in POINTER_NULLS:
            setattr(instance.execution_pointers[0], field, None)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    @pytest.mark.parametrize("change", NESTED_CHANGES)
    def test_a_change_deep_inside_is_stored(self, provider: PersistenceProvider, change: str) -> None:
        """A change inside a dict or list is stored, even though the field is the same object."""
        instance = created(provider, full_workflow())
        NESTED_CHANGES[change](instance)
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        assert stored == instance
        assert repr(stored.execution_pointers) == repr(instance.execution_pointers)

    @pytest.mark.parametrize("change", POINTER_LISTS)
    def test_the_list_of_pointers_is_stored(self, provider: PersistenceProvider, change: str) -> None:
        """Pointers are added, removed and reordered like the list."""
        instance = created(provider, workflow(*map(pointer, "abcde")))
        instance.execution_pointers = POINTER_LISTS[change](instance.execution_pointers)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_one_object_is_saved_again_and_again(self, provider: PersistenceProvider) -> None:
        """Repeated saves of one object each store its current state."""
        instance = workflow(*map(pointer, "abcde"))
        provider.create_new_workflow(instance)
        for change in POINTER_LISTS.values():
            instance.execution_pointers = change([*map(pointer, "abcde")])
            instance.data["last"] = len(instance.execution_pointers)
            provider.persist_workflow(instance)
            assert provider.get_workflow_instance(instance.id) == instance

    def test_a_removed_pointer_may_come_back(self, provider: PersistenceProvider) -> None:
        """A pointer that was removed by one save can be added by the next one."""
        instance = created(provider, workflow(pointer("a"), pointer("b")))
        removed = instance.execution_pointers.pop(0)
        provider.persist_workflow(instance)
        instance.execution_pointers.append(removed)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_pointers_swap_their_ids(self, provider: PersistenceProvider) -> None:
        """Pointers are identified by id, not by object."""
        instance = created(provider, workflow(pointer("a"), full_pointer("b")))
        first, second = instance.execution_pointers
        first.id, second.id = second.id, first.id
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_change_of_fold_is_a_change(self, provider: PersistenceProvider) -> None:
        """Datetimes that differ only in `fold` are different instants, although Python compares them as equal."""
        early = datetime(2030, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        instance = workflow(pointer("a", sleep_until=early))
        provider.create_new_workflow(instance)
        instance.execution_pointers[0].sleep_until = early.replace(fold=1)
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id).execution_pointers[0].sleep_until
        assert stored == datetime(2030, 10, 27, 1, 30, tzinfo=at(0).tzinfo)

    def test_other_workflows_stay(self, provider: PersistenceProvider) -> None:
        """A save does not affect other workflows, even if their pointers have the same ids."""
        other = created(provider, full_workflow(name="other"))
        instance = created(provider, full_workflow(name="mine"))
        del instance.execution_pointers[0]
        instance.execution_pointers[0].outcome = "changed"
        instance.execution_pointers.append(pointer("b"))
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(other.id) == other

    def test_the_store_keeps_its_own_copy_of_a_save(self, provider: PersistenceProvider) -> None:
        """Changes after a save are not stored until the next save."""
        instance = created(provider, workflow())
        instance.data["saved"] = [1]
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        instance.data["saved"].append(2)
        instance.execution_pointers[0].persistence_data["tries"].append(2)
        assert provider.get_workflow_instance(instance.id) == stored

    @pytest.mark.parametrize("revision", [None, 7], ids=["without revision", "with a revision"])
    def test_an_unknown_workflow_is_not_saved(self, provider: PersistenceProvider, revision: int | None) -> None:
        """An unknown id raises `WorkflowNotFoundError`; nothing is created."""
        instance = workflow(revision=revision)
        before = state(instance)
        with pytest.raises(WorkflowNotFoundError) as caught:
            provider.persist_workflow(instance)
        assert caught.value.workflow_id == instance.id
        assert state(instance) == before
        assert not has_workflow(provider, instance.id)

    def test_a_refused_save_keeps_the_changes_to_come(self, provider: PersistenceProvider) -> None:
        """Changes of a rejected save are stored by the next successful one."""
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
        """Workflow and subscriptions are stored; an empty id becomes a new UUID."""
        instance = created(provider, workflow())
        instance.data = {"waiting": True}
        named, empty = subscription(subscription_data=[1, 2]), subscription(id="", event_key="other")
        provider.persist_workflow_with_subscriptions(instance, [named, empty])
        assert provider.get_workflow_instance(instance.id) == instance
        assert provider.get_subscription(named.id) == named
        assert str(UUID(empty.id)) == empty.id
        assert provider.get_subscription(empty.id) == empty

    def test_a_save_with_no_subscription_is_a_save(self, provider: PersistenceProvider) -> None:
        """An empty list of subscriptions is equivalent to `persist_workflow`."""
        instance = created(provider, workflow())
        instance.execution_pointers.reverse()
        provider.persist_workflow_with_subscriptions(instance, [])
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_refused_workflow_brings_no_subscription(self, provider: PersistenceProvider) -> None:
        """A save with a stale revision or an unknown id does not store the subscriptions."""
        late = created(provider, workflow())
        provider.persist_workflow(provider.get_workflow_instance(late.id))
        winner = provider.get_workflow_instance(late.id)
        late.data = {"late": True}
        cases = ((late, ConcurrencyError), (workflow(), WorkflowNotFoundError))
        for instance, error in cases:
            named, empty = subscription(), subscription(id="")
            with pytest.raises(error):
                provider.persist_workflow_with_subscriptions(instance, [named, empty])
            assert not has_subscription(provider, named.id)
            assert provider.get_subscriptions("paid", "order-1", at(0)) == []
            assert empty.id == ""
        assert provider.get_workflow_instance(late.id) == winner

    def test_a_refused_subscription_brings_no_save(self, provider: PersistenceProvider) -> None:
        """An invalid subscription prevents the save; workflow and objects are unchanged."""
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
