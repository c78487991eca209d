"""Optimistic concurrency: who saves what was changed in the meantime is refused, and nothing is lost."""

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
    """`revision`, the stamp under which a save is made."""

    def test_every_load_and_save_sets_it(self, provider: PersistenceProvider) -> None:
        """`None` on an instance that was never loaded or saved; set by every load and save."""
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
        """Each save gives another stamp, though the workflow returns to what it was, or is another one."""
        instance, other = workflow(), workflow()
        stamps = [provider.create_new_workflow(it) and it.revision for it in (instance, other)]
        for turn in range(20):
            instance.data = {"turn": turn % 2}
            provider.persist_workflow(instance)
            stamps.append(instance.revision)
        assert len(set(stamps)) == 22

    def test_it_is_no_part_of_equality(self, provider: PersistenceProvider) -> None:
        """Two instances of one state are equal, though their stamps differ."""
        instance = workflow()
        provider.create_new_workflow(instance)
        first = provider.get_workflow_instance(instance.id)
        provider.persist_workflow(instance)
        second = provider.get_workflow_instance(instance.id)
        assert first.revision != second.revision
        assert first == second

    def test_who_comes_second_is_refused(self, provider: PersistenceProvider) -> None:
        """Changed by another since the load: `ConcurrencyError` with both stamps, and nothing is written."""
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
        """The object keeps its stamp, so trying again is no way around; loading again is."""
        late = created(provider, workflow())
        provider.persist_workflow(provider.get_workflow_instance(late.id))
        late.data = {"late": True}
        for _ in range(2):
            with pytest.raises(ConcurrencyError):
                provider.persist_workflow(late)
        again = provider.get_workflow_instance(late.id)
        again.data = {"late": True}
        provider.persist_workflow(again)
        assert provider.get_workflow_instance(late.id) == late

    def test_a_change_of_a_pointer_alone_counts(self, provider: PersistenceProvider) -> None:
        """A save that changed one pointer and nothing else makes every other load stale."""
        late = created(provider, workflow())
        winner = provider.get_workflow_instance(late.id)
        winner.execution_pointers[1].retry_count = 1
        provider.persist_workflow(winner)
        late.execution_pointers[0].retry_count = 1
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(late)
        assert provider.get_workflow_instance(late.id) == winner

    def test_two_workflows_do_not_disturb_each_other(self, provider: PersistenceProvider) -> None:
        """A stamp is compared with that of its own workflow alone."""
        instance, other = workflow(), workflow()
        for it in (instance, other):
            provider.create_new_workflow(it)
        provider.persist_workflow(other)
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_another_workflows_stamp_is_of_no_use(self, provider: PersistenceProvider) -> None:
        """A stamp that this workflow never had is refused."""
        instance, other = workflow(), workflow()
        for it in (instance, other):
            provider.create_new_workflow(it)
        stored = provider.get_workflow_instance(instance.id)
        instance.data, instance.revision = "mine", other.revision
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == stored

    def test_without_a_stamp_the_save_is_unconditional(self, provider: PersistenceProvider) -> None:
        """`revision` None: the write is unconditional and complete, whatever others wrote meanwhile."""
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
        """An instance made by hand, without a revision, becomes the stored workflow."""
        old = created(provider, full_workflow())
        new = workflow(pointer("new"), pointer("a"), id=old.id, name=old.name)
        provider.persist_workflow(new)
        assert provider.get_workflow_instance(old.id) == new

    @pytest.mark.parametrize("twin", TWINS)
    def test_a_twin_is_saved_complete(self, provider: PersistenceProvider, twin: str) -> None:
        """Came by copy, pickle or hand: saved complete, changes made before and after the copying included."""
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
        """The revision that came along still guards: after another's save the twin is refused."""
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
        """Original and copy are two loads: whoever saves second is refused."""
        original = created(provider, workflow())
        other = copy.deepcopy(original)
        other.execution_pointers.pop()
        provider.persist_workflow(other)
        original.data = {"late": True}
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(original)
        assert provider.get_workflow_instance(original.id) == other

    def test_loads_may_share_their_pointers(self, provider: PersistenceProvider) -> None:
        """What is stored is what the instance holds, though its pointers came with another load."""
        first = created(provider, workflow(pointer("a"), pointer("b")))
        second = provider.get_workflow_instance(first.id)
        first.execution_pointers[0].outcome = "changed"
        second.execution_pointers = first.execution_pointers
        provider.persist_workflow(second)
        assert provider.get_workflow_instance(first.id) == second

    def test_an_object_turned_into_another_workflow(self, provider: PersistenceProvider) -> None:
        """An object whose id and revision were set to another workflow's is saved complete, as that one."""
        first, second = full_workflow(name="one"), workflow(pointer("z"), name="two")
        for it in (first, second):
            provider.create_new_workflow(it)
        loaded = provider.get_workflow_instance(first.id)
        loaded.id, loaded.name, loaded.revision = second.id, second.name, second.revision
        provider.persist_workflow(loaded)
        assert provider.get_workflow_instance(second.id) == loaded
        assert provider.get_workflow_instance(first.id) == first

    def test_a_changed_id_is_not_found(self, provider: PersistenceProvider) -> None:
        """A workflow is known by its id: an object whose id was changed is another, unknown one."""
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.id = "another"
        with pytest.raises(WorkflowNotFoundError):
            provider.persist_workflow(instance)
        assert provider.get_workflow_instance(stored.id) == stored
