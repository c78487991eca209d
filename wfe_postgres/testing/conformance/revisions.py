"""Optimistic locking: a save of a workflow that was changed since the load is rejected."""

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import WorkflowInstance
from wfe_postgres.testing.conformance.support import (
    Conformance,
    created,
    full_pointer,
    full_workflow,
    pointer,
    state,
    workflow,
)


def _by_hand(original: WorkflowInstance) -> WorkflowInstance:
    return WorkflowInstance(**{field.name: getattr(original, field.name) for field in dataclasses.fields(original)})


TWINS: dict[str, Callable[[WorkflowInstance], WorkflowInstance]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda original: pickle.loads(pickle.dumps(original)),
    "replace": dataclasses.replace,
    "by hand": _by_hand,
}


class RevisionConformance(Conformance):
    """`revision` and the conditional save."""

    def test_every_load_and_save_sets_it(self, provider: PersistenceProvider) -> None:
        """`None` on a new instance; set by every load and save."""
        instance = workflow(name="named")
        assert instance.revision is None
        provider.create_new_workflow(instance)
        loads = [
            provider.get_workflow_instance(instance.id),
            provider.get_workflow_instance_by_name("named"),
            *provider.get_workflow_instances([instance.id]),
        ]
        assert all(isinstance(it.revision, int) for it in loads)
        instance.revision = None
        provider.persist_workflow(instance)
        assert isinstance(instance.revision, int)

    def test_a_stamp_is_never_used_twice(self, provider: PersistenceProvider) -> None:
        """Each save sets a new revision, unique across workflows, even if the state is the same as before."""
        instance, other = workflow(), workflow()
        revisions = [provider.create_new_workflow(it) and it.revision for it in (instance, other)]
        for turn in range(20):
            instance.data = {"turn": turn % 2}
            provider.persist_workflow(instance)
            revisions.append(instance.revision)
        assert len(set(revisions)) == 22

    def test_it_is_no_part_of_equality(self, provider: PersistenceProvider) -> None:
        """Instances with equal state and different revisions are equal."""
        instance = workflow()
        provider.create_new_workflow(instance)
        first = provider.get_workflow_instance(instance.id)
        provider.persist_workflow(instance)
        second = provider.get_workflow_instance(instance.id)
        assert first.revision != second.revision
        assert first == second

    def test_who_comes_second_is_refused(self, provider: PersistenceProvider) -> None:
        """If another save happened since the load: `ConcurrencyError` with both revisions, and nothing is written."""
        late = created(provider, full_workflow())
        winner = provider.get_workflow_instance(late.id)
        winner.data = {"winner": True}
        winner.execution_pointers.append(pointer("winner"))
        provider.persist_workflow(winner)

        late.data = {"late": True}
        late.execution_pointers = [pointer("late"), *late.execution_pointers[1:]]
        before = state(late)
        with pytest.raises(ConcurrencyError) as caught:
            provider.persist_workflow(late)
        error = caught.value
        assert (error.workflow_id, error.expected, error.found) == (late.id, late.revision, winner.revision)
        assert provider.get_workflow_instance(late.id) == winner
        assert state(late) == before

    def test_who_was_refused_stays_refused(self, provider: PersistenceProvider) -> None:
        """The rejected object keeps its revision, so a repeated save fails; a new load is required."""
        late = created(provider, workflow())
        provider.persist_workflow(provider.get_workflow_instance(late.id))
        late.data = {"late": True}
        for _ in range(2):
            with pytest.raises(ConcurrencyError):
                provider.persist_workflow(late)
        reloaded = provider.get_workflow_instance(late.id)
        reloaded.data = {"late": True}
        provider.persist_workflow(reloaded)
        assert provider.get_workflow_instance(late.id) == late

    def test_a_change_of_a_pointer_alone_counts(self, provider: PersistenceProvider) -> None:
        """A save that only changed a pointer makes other loaded instances stale."""
        late = created(provider, workflow())
        winner = provider.get_workflow_instance(late.id)
        winner.execution_pointers[1].retry_count = 1
        provider.persist_workflow(winner)
        late.execution_pointers[0].retry_count = 1
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(late)
        assert provider.get_workflow_instance(late.id) == winner

    def test_two_workflows_do_not_disturb_each_other(self, provider: PersistenceProvider) -> None:
        """A save of one workflow does not affect the revision of another."""
        instance, other = workflow(), workflow()
        for it in (instance, other):
            provider.create_new_workflow(it)
        provider.persist_workflow(other)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_another_workflows_stamp_is_of_no_use(self, provider: PersistenceProvider) -> None:
        """A revision that this workflow never had is rejected."""
        instance, other = workflow(), workflow()
        for it in (instance, other):
            provider.create_new_workflow(it)
        stored = provider.get_workflow_instance(instance.id)
        instance.data, instance.revision = "mine", other.revision
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == stored

    def test_without_a_stamp_the_save_is_unconditional(self, provider: PersistenceProvider) -> None:
        """With `revision` None, the save is unconditional and writes the complete workflow."""
        instance = created(provider, workflow(pointer("a"), pointer("b"), pointer("c")))
        winner = provider.get_workflow_instance(instance.id)
        winner.data, winner.description = {"winner": True}, "winner"
        winner.execution_pointers = [pointer("x"), full_pointer("c"), full_pointer("a")]
        provider.persist_workflow(winner)
        instance.revision = None
        provider.persist_workflow(instance)
        stored = provider.get_workflow_instance(instance.id)
        assert stored == instance
        assert [it.id for it in stored.execution_pointers] == ["a", "b", "c"]
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(winner)

    def test_a_new_object_without_a_stamp_replaces_all(self, provider: PersistenceProvider) -> None:
        """A new instance without a revision replaces the stored workflow."""
        old = created(provider, full_workflow())
        new = workflow(pointer("new"), pointer("a"), id=old.id, name=old.name)
        provider.persist_workflow(new)
        assert provider.get_workflow_instance(old.id) == new

    @pytest.mark.parametrize("twin", TWINS)
    def test_a_twin_is_saved_complete(self, provider: PersistenceProvider, twin: str) -> None:
        """A copied or unpickled instance is saved completely, with changes made before and after the copy."""
        original = created(provider, workflow(*map(pointer, "abcd")))
        original.execution_pointers[0].outcome = {"before": "the copying"}
        original.execution_pointers.reverse()
        other = TWINS[twin](original)
        other.execution_pointers[1].outcome = {"after": "the copying"}
        other.execution_pointers = [*other.execution_pointers[1:], pointer("new")]
        other.data = {"twin": True}
        provider.persist_workflow(other)
        assert provider.get_workflow_instance(original.id) == other

    @pytest.mark.parametrize("twin", TWINS)
    def test_a_twin_is_saved_under_its_stamp(self, provider: PersistenceProvider, twin: str) -> None:
        """A copy keeps the revision: it is rejected after another save."""
        original = created(provider, workflow(*map(pointer, "abcd")))
        other = TWINS[twin](original)
        other.data = {"late": True}
        winner = provider.get_workflow_instance(original.id)
        winner.execution_pointers.pop()
        provider.persist_workflow(winner)
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(other)
        assert provider.get_workflow_instance(original.id) == winner

    def test_a_twins_save_makes_the_original_stale(self, provider: PersistenceProvider) -> None:
        """After a save of the copy, a save of the original is rejected."""
        original = created(provider, workflow())
        other = copy.deepcopy(original)
        other.execution_pointers.pop()
        provider.persist_workflow(other)
        original.data = {"late": True}
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(original)
        assert provider.get_workflow_instance(original.id) == other

    def test_loads_may_share_their_pointers(self, provider: PersistenceProvider) -> None:
        """Pointers from another loaded instance are saved correctly."""
        first = created(provider, workflow(pointer("a"), pointer("b")))
        second = provider.get_workflow_instance(first.id)
        first.execution_pointers[0].outcome = "changed"
        second.execution_pointers = first.execution_pointers
        provider.persist_workflow(second)
        assert provider.get_workflow_instance(first.id) == second

    def test_an_object_turned_into_another_workflow(self, provider: PersistenceProvider) -> None:
        """An object with the id and revision of another workflow is saved completely as that workflow."""
        first, second = full_workflow(name="one"), workflow(pointer("z"), name="two")
        for it in (first, second):
            provider.create_new_workflow(it)
        loaded = provider.get_workflow_instance(first.id)
        loaded.id, loaded.name, loaded.revision = second.id, second.name, second.revision
        provider.persist_workflow(loaded)
        assert provider.get_workflow_instance(second.id) == loaded
        assert provider.get_workflow_instance(first.id) == first

    def test_a_changed_id_is_not_found(self, provider: PersistenceProvider) -> None:
        """An object whose id was changed to an unknown one raises `WorkflowNotFoundError`."""
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.id = "another"
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)
        assert provider.get_workflow_instance(stored.id) == stored
