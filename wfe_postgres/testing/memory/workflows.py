"""Workflows in memory."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from wfe_postgres.codec.change_tracking import compare, new_revision
from wfe_postgres.codec.encoding import encode_pointer, workflow_record
from wfe_postgres.codec.json_values import check_call_size, encode
from wfe_postgres.codec.validation import count, definition, key, milliseconds, text
from wfe_postgres.contract.errors import ConcurrencyError, PersistenceError, WorkflowExistsError, WorkflowNotFoundError
from wfe_postgres.contract.models import CommandName, EventSubscription, WorkflowInstance, WorkflowStatus
from wfe_postgres.contract.repositories import WorkflowRepository
from wfe_postgres.contract.status_changes import completion_event, resume, save_changed, terminate
from wfe_postgres.repositories.base import id_or_new
from wfe_postgres.testing.memory.store import InMemoryPart, check_distinct, kept
from wfe_postgres.testing.memory.subscriptions import add_subscriptions, checked_subscription


class InMemoryWorkflows(InMemoryPart, WorkflowRepository):
    """`WorkflowRepository` on a `Store`."""

    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        """See `WorkflowRepository`."""
        new_id = id_or_new(instance.id)
        new = self._checked(replace(instance, id=new_id, name=new_id if instance.name == "" else instance.name))
        with self._store.lock:
            if new.id in self._store.workflows or self._named(new.name):
                raise WorkflowExistsError(new.id, new.name)
            self._store.workflows[new.id] = new
        instance.id, instance.name, instance.revision = new.id, new.name, new.revision
        return new.id

    def persist_workflow(self, instance: WorkflowInstance) -> None:
        """See `WorkflowRepository`."""
        self.persist_workflow_with_subscriptions(instance, [])

    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        """See `WorkflowRepository`."""
        changed = self._checked(instance)
        new = [
            checked_subscription(it, f"subscriptions[{index}].", self._limit) for index, it in enumerate(subscriptions)
        ]
        check_distinct((it.id for it in new), "subscriptions")
        with self._store.lock:
            self._check_unchanged(instance)
            if (rival := self._named(changed.name)) and rival.id != changed.id:
                raise PersistenceError("duplicate name", "23505", "workflows_name_key")
            add_subscriptions(self._store, new)
            self._store.workflows[changed.id] = changed
        instance.revision = changed.revision
        for subscription, stored in zip(subscriptions, new, strict=True):
            subscription.id = stored.id

    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        """See `WorkflowRepository`."""
        due, maximum = milliseconds(as_at, "as_at"), count(limit, "limit")
        known = {definition(it, f"definitions[{index}]") for index, it in enumerate(definitions or ())}
        with self._store.lock:
            runnable = [
                (it.next_execution, it.id)
                for it in self._store.workflows.values()
                if it.status is WorkflowStatus.RUNNABLE and it.next_execution is not None and it.next_execution <= due
                if definitions is None or (it.workflow_definition_id, it.version) in known
            ]
        return [workflow_id for _, workflow_id in sorted(runnable)[:maximum]]

    def resume_workflow(self, id: str, *, skip_failed: bool = False) -> bool:
        """See `WorkflowRepository`."""

        def change(instance: WorkflowInstance) -> bool:
            changed = resume(instance, skip_failed=skip_failed)
            instance.next_execution = milliseconds(self._clock(), "clock") if changed else instance.next_execution
            return changed

        return save_changed(self, id, change)

    def terminate_workflow(self, id: str) -> bool:
        """See `WorkflowRepository`."""
        with self._store.lock:
            instance = self.get_workflow_instance(id)
            if not terminate(instance):
                return False
            instance.complete_time = self._clock()
            self.persist_workflow(instance)
            store = self._store
            store.subscriptions = {it.id: it for it in store.subscriptions.values() if it.workflow_id != id}
            store.commands.pop((CommandName.PROCESS_WORKFLOW, id), None)
            if instance.root_workflow_id is not None:
                event = completion_event(instance)
                event.event_time = self._clock()
                store.events.setdefault(event.id, event)
            return True

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        with self._store.lock:
            return deepcopy(self._workflow(text(id, "id")))

    def get_workflow_instance_by_name(self, name: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        with self._store.lock:
            if found := self._named(text(name, "name")):
                return deepcopy(found)
        raise WorkflowNotFoundError(name)

    def get_workflow_instances(self, ids: Sequence[str]) -> list[WorkflowInstance]:
        """See `WorkflowRepository`."""
        wanted = [text(it, f"ids[{index}]") for index, it in enumerate(ids)]
        with self._store.lock:
            return [deepcopy(self._store.workflows[it]) for it in wanted if it in self._store.workflows]

    def next_definition_sequence(self, definition_id: str) -> int:
        """See `WorkflowRepository`."""
        counted = key(definition_id, "definition_id")
        with self._store.lock:
            number = self._store.sequences[counted] = self._store.sequences.get(counted, 0) + 1
        return number

    def _checked(self, instance: WorkflowInstance) -> WorkflowInstance:
        """The normalized instance with a new revision. Raises `SerializationError`."""
        workflow_record(instance, instance.id, instance.name)
        data = encode(instance.data, "data", self._limit)
        pointers = [
            encode_pointer(pointer, index, instance.id, f"execution_pointers[{index}]", self._limit)
            for index, pointer in enumerate(instance.execution_pointers)
        ]
        check_call_size("execution_pointers", data, *pointers)
        compare(instance, instance.id, None)  # refuses two pointers with one id, and a workflow that is too large
        return replace(kept(instance), revision=new_revision())

    def _check_unchanged(self, instance: WorkflowInstance) -> None:
        found = self._workflow(instance.id).revision
        assert found is not None, "a stored workflow has a revision"
        if instance.revision is not None and instance.revision != found:
            raise ConcurrencyError(instance.id, instance.revision, found)

    def _workflow(self, workflow_id: str) -> WorkflowInstance:
        if workflow_id not in self._store.workflows:
            raise WorkflowNotFoundError(workflow_id)
        return self._store.workflows[workflow_id]

    def _named(self, name: str) -> WorkflowInstance | None:
        return next((it for it in self._store.workflows.values() if it.name == name), None)
