"""Renewing a claim; suspending, resuming and terminating workflows."""

from collections.abc import Callable

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, SerializationError, WorkflowNotFoundError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import CommandName, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.support import (
    Conformance,
    at,
    command,
    created,
    from_now,
    has_subscription,
    ms,
    pointer,
    subscription,
    workflow,
)

UNKNOWN: dict[str, Callable[[PersistenceProvider], object]] = {
    "renew": lambda it: it.renew_workflow("unknown", 1, 0),
    "suspend": lambda it: it.suspend_workflow("unknown"),
    "resume": lambda it: it.resume_workflow("unknown"),
    "terminate": lambda it: it.terminate_workflow("unknown"),
}
CHANGES: dict[str, tuple[Callable[[PersistenceProvider, str], bool], set[WorkflowStatus], WorkflowStatus]] = {
    "suspend": (
        lambda it, workflow_id: it.suspend_workflow(workflow_id),
        {WorkflowStatus.RUNNABLE},
        WorkflowStatus.SUSPENDED,
    ),
    "resume": (
        lambda it, workflow_id: it.resume_workflow(workflow_id),
        {WorkflowStatus.SUSPENDED},
        WorkflowStatus.RUNNABLE,
    ),
    "terminate": (
        lambda it, workflow_id: it.terminate_workflow(workflow_id),
        {WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED},
        WorkflowStatus.TERMINATED,
    ),
}
COMPLETED = "wfe.workflow.completed"


def revision_of(instance: WorkflowInstance) -> int:
    """The revision of an instance that was loaded."""
    assert instance.revision is not None
    return instance.revision


class StatusConformance(Conformance):
    """`renew_workflow`, `suspend_workflow`, `resume_workflow` and `terminate_workflow`."""

    @pytest.mark.parametrize("call", UNKNOWN)
    def test_an_unknown_workflow_cannot_be_changed(self, provider: PersistenceProvider, call: str) -> None:
        """An unknown id raises `WorkflowNotFoundError`."""
        with pytest.raises(WorkflowNotFoundError) as caught:
            UNKNOWN[call](provider)
        assert caught.value.workflow_id == "unknown"

    def test_renewing_moves_next_execution_alone(self, provider: PersistenceProvider) -> None:
        """Nothing but `next_execution` and the revision changes; the caller's instance goes on under the new one."""
        instance = created(provider, workflow(next_execution=ms(1)))
        before = revision_of(instance)
        instance.revision = provider.renew_workflow(instance.id, before, ms(2))
        assert instance.revision != before
        instance.next_execution = ms(2)
        assert provider.get_workflow_instance(instance.id) == instance
        assert provider.get_workflow_instance(instance.id).revision == instance.revision
        instance.execution_pointers[0].status = PointerStatus.COMPLETE
        provider.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance

    def test_renewing_with_none_lets_a_workflow_wait(self, provider: PersistenceProvider) -> None:
        """`next_execution` None: the workflow is no longer polled."""
        instance = created(provider, workflow(next_execution=ms(1)))
        provider.renew_workflow(instance.id, revision_of(instance), None)
        assert provider.get_runnable_instances(at(10**9)) == []

    def test_a_late_host_cannot_renew(self, provider: PersistenceProvider) -> None:
        """Another save since the load: `ConcurrencyError`, and nothing is written."""
        late = created(provider, workflow())
        winner = provider.get_workflow_instance(late.id)
        provider.persist_workflow(winner)
        with pytest.raises(ConcurrencyError) as caught:
            provider.renew_workflow(late.id, revision_of(late), ms(9))
        error = caught.value
        assert (error.workflow_id, error.expected, error.found) == (late.id, late.revision, winner.revision)
        assert provider.get_workflow_instance(late.id) == winner

    def test_a_renewed_workflow_refuses_the_revision_before(self, provider: PersistenceProvider) -> None:
        """A save under the revision before the renewal raises `ConcurrencyError`."""
        instance = created(provider, workflow())
        provider.renew_workflow(instance.id, revision_of(instance), ms(9))
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(instance)

    def test_a_renewal_beyond_64_bits_is_refused(self, provider: PersistenceProvider) -> None:
        """`next_execution` has 64 bits."""
        instance = created(provider, workflow())
        with pytest.raises(SerializationError):
            provider.renew_workflow(instance.id, revision_of(instance), 2**63)
        assert provider.get_workflow_instance(instance.id).revision == instance.revision

    @pytest.mark.parametrize("status", WorkflowStatus)
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_status_is_changed_from_some(
        self, provider: PersistenceProvider, change: str, status: WorkflowStatus
    ) -> None:
        """True if the workflow was in a status for it; else False, and nothing is written."""
        call, sources, target = CHANGES[change]
        before = created(provider, workflow(status=status, next_execution=ms(1)))
        assert call(provider, before.id) == (status in sources)
        after = provider.get_workflow_instance(before.id)
        assert after.status is (target if status in sources else status)
        assert (after.revision != before.revision) == (status in sources)
        assert after.execution_pointers == before.execution_pointers

    @pytest.mark.parametrize("change", ["suspend", "terminate"])
    def test_a_running_host_cannot_undo_it(self, provider: PersistenceProvider, change: str) -> None:
        """The save of a host that loaded the workflow before raises `ConcurrencyError`."""
        call, _, target = CHANGES[change]
        running = created(provider, workflow())
        assert call(provider, running.id)
        running.data = "stale"
        with pytest.raises(ConcurrencyError):
            provider.persist_workflow(running)
        assert provider.get_workflow_instance(running.id).status is target

    def test_a_resumed_workflow_is_due(self, provider: PersistenceProvider) -> None:
        """`next_execution` becomes the present time, and the workflow is polled again."""
        instance = created(provider, workflow(status=WorkflowStatus.SUSPENDED, next_execution=None))
        assert provider.resume_workflow(instance.id)
        due = provider.get_workflow_instance(instance.id).next_execution
        assert due is not None
        assert from_now(-60).timestamp() * 1000 < due < from_now(60).timestamp() * 1000
        assert provider.get_runnable_instances(from_now(60)) == [instance.id]

    @pytest.mark.parametrize("skip_failed", [False, True])
    def test_resuming_readies_running_and_failed_pointers(
        self, provider: PersistenceProvider, skip_failed: bool
    ) -> None:
        """Running ones become Pending, Failed ones Pending as if new, or Skipped and active; others stay."""
        pointers = [
            pointer(status.name, status=status, active=False, retry_count=3, end_time=at(1), sleep_until=at(2))
            for status in PointerStatus
        ]
        instance = created(provider, workflow(*pointers, status=WorkflowStatus.SUSPENDED))
        assert provider.resume_workflow(instance.id, skip_failed=skip_failed)
        for it in instance.execution_pointers:
            if it.status is PointerStatus.RUNNING:
                it.status = PointerStatus.PENDING
            elif it.status is PointerStatus.FAILED and skip_failed:
                it.status, it.active = PointerStatus.SKIPPED, True
            elif it.status is PointerStatus.FAILED:
                it.status, it.active, it.retry_count, it.end_time = PointerStatus.PENDING, True, 0, None
        assert provider.get_workflow_instance(instance.id).execution_pointers == instance.execution_pointers

    def test_terminating_removes_what_the_workflow_waits_for(self, provider: PersistenceProvider) -> None:
        """Its subscriptions, held ones too, and its ProcessWorkflow command are removed; others' stay."""
        instance = created(provider, workflow())
        waiting = [subscription(workflow_id=instance.id), subscription(workflow_id=instance.id, external_token="held")]
        others = subscription(workflow_id="other")
        for it in (*waiting, others):
            provider.create_event_subscription(it)
        kept = [command("other"), command(instance.id, name=CommandName.PROCESS_EVENT)]
        for scheduled in (command(instance.id), *kept):
            provider.schedule_command(scheduled)
        assert provider.terminate_workflow(instance.id)
        assert [has_subscription(provider, it.id) for it in (*waiting, others)] == [False, False, True]
        handled: list[tuple[str, str]] = []
        provider.process_commands(at(9), lambda it: handled.append((it.command_name, it.data)))
        assert sorted(handled) == sorted((it.command_name, it.data) for it in kept)
        complete_time = provider.get_workflow_instance(instance.id).complete_time
        assert complete_time is not None
        assert from_now(-60) < complete_time < from_now(60)

    def test_a_terminated_child_tells_its_parent(self, provider: PersistenceProvider) -> None:
        """An event with its status and data, once; a workflow without a root creates none."""
        child = created(provider, workflow(root_workflow_id="parent", data={"amount": 10}))
        alone = created(provider, workflow())
        assert [provider.terminate_workflow(it.id) for it in (child, alone, child)] == [True, True, False]
        [event_id] = provider.get_events(COMPLETED, child.id, from_now(60))
        told = provider.get_event(event_id)
        assert told.event_data == {"status": "Terminated", "data": {"amount": 10}}
        assert not told.is_processed
        assert from_now(-60) < told.event_time < from_now(60)
        assert provider.get_events(COMPLETED, alone.id, from_now(60)) == []

    def test_a_completion_that_was_told_is_kept(self, provider: PersistenceProvider) -> None:
        """The event's id depends on the workflow's id alone; one that exists is kept."""
        child = created(provider, workflow(root_workflow_id="parent"))
        provider.terminate_workflow(child.id)
        [event_id] = provider.get_events(COMPLETED, child.id, from_now(60))
        provider.mark_event_processed(event_id)
        running = provider.get_workflow_instance(child.id)
        running.status = WorkflowStatus.RUNNABLE
        provider.persist_workflow(running)
        assert provider.terminate_workflow(child.id)
        assert provider.get_event(event_id).is_processed
