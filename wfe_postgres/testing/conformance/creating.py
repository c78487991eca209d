"""Creating and loading workflows, polling for due ones, and definition sequences."""

from copy import deepcopy
from datetime import timedelta, timezone
from typing import Any, cast
from uuid import UUID

import pytest

from wfe_postgres.contract.errors import SerializationError, WorkflowExistsError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.support import (
    Conformance,
    at,
    created,
    full_workflow,
    has_workflow,
    ms,
    pointer,
    state,
    workflow,
)


class CreatingConformance(Conformance):
    """`create_new_workflow` and the methods that read workflows."""

    def test_a_created_workflow_is_read_back_whole(self, provider: PersistenceProvider) -> None:
        """All fields of the instance and its pointers are stored; the order of the pointers is kept."""
        instance = full_workflow()
        assert provider.create_new_workflow(instance) == instance.id
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_workflow_without_pointers_is_read_back(self, provider: PersistenceProvider) -> None:
        """A workflow with no pointers is stored."""
        instance = WorkflowInstance("order", 1)
        instance.name = instance.id
        assert created(provider, instance) == instance

    def test_an_empty_id_becomes_a_uuid(self, provider: PersistenceProvider) -> None:
        """An empty id becomes a new UUID, an empty name becomes the id; both are set on the object."""
        instance = workflow(id="", name="")
        workflow_id = provider.create_new_workflow(instance)
        assert str(UUID(workflow_id)) == workflow_id
        assert (instance.id, instance.name) == (workflow_id, workflow_id)
        assert provider.get_workflow_instance(workflow_id) == instance

    def test_an_empty_name_becomes_the_id(self, provider: PersistenceProvider) -> None:
        """An empty name becomes the id; another name is kept."""
        unnamed, named = workflow(id="one"), workflow(id="two", name="second")
        assert created(provider, unnamed).name == unnamed.name == "one"
        assert created(provider, named).name == named.name == "second"

    def test_creation_sets_the_revision(self, provider: PersistenceProvider) -> None:
        """A created instance has a revision and can be saved without loading it."""
        instance = workflow()
        provider.create_new_workflow(instance)
        assert isinstance(instance.revision, int)
        instance.description = "changed"
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_a_loaded_workflow_can_be_created_anew_under_another_id(self, provider: PersistenceProvider) -> None:
        """The revision of an instance is ignored when it is created."""
        first = created(provider, full_workflow(id="one", name="one"))
        second = provider.get_workflow_instance("one")
        second.id = second.name = "two"
        assert created(provider, second) == second
        assert provider.get_workflow_instance("one") == first

    def test_a_taken_id_is_refused(self, provider: PersistenceProvider) -> None:
        """A duplicate id raises `WorkflowExistsError`; nothing is written."""
        first = created(provider, workflow(id="one", name="first"))
        with pytest.raises(WorkflowExistsError) as caught:
            provider.create_new_workflow(workflow(pointer("third"), id="one", name="other"))
        assert (caught.value.workflow_id, caught.value.name) == ("one", "other")
        assert provider.get_workflow_instance("one") == first
        with pytest.raises(WorkflowNotFoundError):
            provider.get_workflow_instance_by_name("other")

    def test_a_taken_name_is_refused(self, provider: PersistenceProvider) -> None:
        """A duplicate name raises `WorkflowExistsError`; nothing is written."""
        first = created(provider, workflow(id="one", name="first"))
        with pytest.raises(WorkflowExistsError) as caught:
            provider.create_new_workflow(workflow(pointer("third"), id="two", name="first"))
        assert (caught.value.workflow_id, caught.value.name) == ("two", "first")
        assert provider.get_workflow_instance_by_name("first") == first
        assert not has_workflow(provider, "two")

    def test_an_id_may_not_stand_as_another_name(self, provider: PersistenceProvider) -> None:
        """An empty name becomes the id, so an id that is the name of another workflow is rejected."""
        provider.create_new_workflow(workflow(id="one", name="two"))
        with pytest.raises(WorkflowExistsError):
            provider.create_new_workflow(workflow(id="two"))
        assert not has_workflow(provider, "two")

    def test_a_refused_creation_leaves_the_object(self, provider: PersistenceProvider) -> None:
        """A failed creation does not set id, name or revision of the caller's object."""
        provider.create_new_workflow(workflow(name="taken"))
        refused = workflow(id="", name="taken")
        before = state(refused)
        with pytest.raises(WorkflowExistsError):
            provider.create_new_workflow(refused)
        assert state(refused) == before
        refused.name = ""
        assert created(provider, refused) == refused

    def test_two_workflows_may_have_pointers_of_one_id(self, provider: PersistenceProvider) -> None:
        """The id of a pointer is unique within its workflow only."""
        one, two = workflow(pointer("same", step_id=1)), workflow(pointer("same", step_id=2))
        provider.create_new_workflow(one)
        provider.create_new_workflow(two)
        assert provider.get_workflow_instance(one.id) == one
        assert provider.get_workflow_instance(two.id) == two

    def test_the_store_keeps_its_own_copy(self, provider: PersistenceProvider) -> None:
        """Changes of a created or loaded object are not stored without a save."""
        instance = workflow(name="mine")
        stored = deepcopy(created(provider, instance))
        loads = [
            provider.get_workflow_instance(instance.id),
            provider.get_workflow_instance_by_name("mine"),
            *provider.get_workflow_instances([instance.id]),
        ]
        for mine in (instance, *loads):
            mine.data["order"]["lines"].append("more")
            mine.execution_pointers[0].persistence_data["tries"].append(2)
            mine.execution_pointers.pop()
        assert provider.get_workflow_instance(instance.id) == stored

    def test_an_id_that_is_given_twice_is_loaded_twice(self, provider: PersistenceProvider) -> None:
        """Into objects of their own, in the order of the ids."""
        one, two = created(provider, workflow()), created(provider, full_workflow())
        found = provider.get_workflow_instances([one.id, two.id, one.id])
        assert found == [one, two, one]
        found[0].data["order"]["lines"].append("more")
        assert found[2] == one

    def test_a_workflow_is_found_by_its_name(self, provider: PersistenceProvider) -> None:
        """Loading by name returns the same workflow as loading by id; the id is not a name."""
        instance = full_workflow(name="by name")
        provider.create_new_workflow(instance)
        assert provider.get_workflow_instance_by_name("by name") == instance
        with pytest.raises(WorkflowNotFoundError):
            provider.get_workflow_instance_by_name(instance.id)

    def test_an_unknown_workflow_is_an_error(self, provider: PersistenceProvider) -> None:
        """An unknown id or name raises `WorkflowNotFoundError` with that value."""
        for get in (provider.get_workflow_instance, provider.get_workflow_instance_by_name):
            with pytest.raises(WorkflowNotFoundError) as caught:
                get("unknown")
            assert caught.value.workflow_id == "unknown"

    def test_several_come_in_the_order_of_their_ids(self, provider: PersistenceProvider) -> None:
        """The result is in the order of `ids`; unknown ids are omitted."""
        one, two, three = full_workflow(name="one"), workflow(), full_workflow(name="three")
        for instance in (one, two, three):
            provider.create_new_workflow(instance)
        assert provider.get_workflow_instances([three.id, "unknown", one.id, two.id]) == [three, one, two]
        assert provider.get_workflow_instances(["unknown"]) == []
        assert provider.get_workflow_instances([]) == []

    def test_one_of_several_can_be_saved(self, provider: PersistenceProvider) -> None:
        """Workflows loaded in bulk or by name can be changed and saved."""
        ids = [provider.create_new_workflow(full_workflow(name=name)) for name in ("one", "two")]
        first, second = provider.get_workflow_instances(ids)[1], provider.get_workflow_instance_by_name("one")
        for instance in (first, second):
            instance.execution_pointers.reverse()
            instance.execution_pointers[0].outcome = {"changed": True}
            provider.persist_workflow(instance)
            assert provider.get_workflow_instance(instance.id) == instance

    @pytest.mark.parametrize("status", WorkflowStatus)
    def test_only_runnable_ones_are_polled(self, provider: PersistenceProvider, status: WorkflowStatus) -> None:
        """Only workflows with status Runnable are returned."""
        workflow_id = provider.create_new_workflow(workflow(status=status, next_execution=ms(0)))
        expected = [workflow_id] if status is WorkflowStatus.RUNNABLE else []
        assert provider.get_runnable_instances(at(0)) == expected

    def test_a_workflow_is_due_from_its_millisecond_on(self, provider: PersistenceProvider) -> None:
        """A workflow is due if `next_execution <= as_at` in milliseconds, for any UTC offset of `as_at`."""
        workflow_id = provider.create_new_workflow(workflow(next_execution=ms(1)))
        nepal = timezone(timedelta(hours=5, minutes=45))
        assert provider.get_runnable_instances(at(1)) == [workflow_id]
        assert provider.get_runnable_instances(at(1).astimezone(nepal)) == [workflow_id]
        assert provider.get_runnable_instances(at(1) - timedelta(microseconds=1)) == []
        assert provider.get_runnable_instances(at(1).astimezone(nepal) - timedelta(milliseconds=1)) == []

    def test_a_workflow_without_next_execution_waits(self, provider: PersistenceProvider) -> None:
        """A workflow with `next_execution` None is never due; the default 0 is due immediately."""
        waiting, new = workflow(next_execution=None), workflow()
        provider.create_new_workflow(waiting)
        provider.create_new_workflow(new)
        assert provider.get_runnable_instances(at(10**9)) == [new.id]

    def test_the_earliest_come_first(self, provider: PersistenceProvider) -> None:
        """Earliest first, at most `limit`."""
        ids = {second: provider.create_new_workflow(workflow(next_execution=ms(second))) for second in (3, 1, 4, 2)}
        assert provider.get_runnable_instances(at(3)) == [ids[1], ids[2], ids[3]]
        assert provider.get_runnable_instances(at(9), limit=2) == [ids[1], ids[2]]
        assert provider.get_runnable_instances(at(9), 9) == [ids[1], ids[2], ids[3], ids[4]]
        assert provider.get_runnable_instances(at(9), limit=0) == []

    def test_only_the_named_definitions_are_polled(self, provider: PersistenceProvider) -> None:
        """Id and version must both match; merged by time, at most `limit`; no definition, no workflow."""
        ids = {
            (name, version, second): provider.create_new_workflow(
                workflow(workflow_definition_id=name, version=version, next_execution=ms(second))
            )
            for second, (name, version) in enumerate([("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 1)], 1)
        }
        wanted = [("a", 1), ("b", 2), ("unknown", 1), ("a", 1)]
        expected = [ids["a", 1, 1], ids["b", 2, 4], ids["a", 1, 5]]
        assert provider.get_runnable_instances(at(9), definitions=wanted) == expected
        assert provider.get_runnable_instances(at(9), 2, definitions=wanted) == expected[:2]
        assert provider.get_runnable_instances(at(4), definitions=wanted) == expected[:2]
        assert provider.get_runnable_instances(at(9), definitions=[]) == []
        for bad in (("a", -1), ("a", "1"), ("\0", 1), ("a",), "a1"):
            with pytest.raises(SerializationError) as caught:
                provider.get_runnable_instances(at(9), definitions=[("a", 1), cast(Any, bad)])
            assert caught.value.path.startswith("definitions[1]")

    def test_a_save_moves_a_workflow_among_the_runnable(self, provider: PersistenceProvider) -> None:
        """The poll uses the last saved state of the workflow."""
        instance = created(provider, workflow(next_execution=ms(1)))
        instance.next_execution = ms(2)
        provider.persist_workflow(instance)
        assert provider.get_runnable_instances(at(1)) == []
        instance.status = WorkflowStatus.COMPLETE
        provider.persist_workflow(instance)
        assert provider.get_runnable_instances(at(2)) == []

    def test_sequences_count_per_definition(self, provider: PersistenceProvider) -> None:
        """1, 2, 3, ... per definition."""
        assert [provider.next_definition_sequence("order") for _ in range(3)] == [1, 2, 3]
        assert provider.next_definition_sequence("invoice") == 1
        assert provider.next_definition_sequence("order") == 4
