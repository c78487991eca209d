"""Broken providers: wrong behavior of workflows."""

import time
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta

from wfe_postgres.contract.models import EventSubscription, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing import InMemoryPersistenceProvider

ROUND_TRIP = 0.001  # seconds, as between two statements sent to a database


class NoRevisionCheck(InMemoryPersistenceProvider):
    def _check_unchanged(self, instance: WorkflowInstance) -> None:
        self._workflow(instance.id)


class RevisionCounted(InMemoryPersistenceProvider):
    def _checked(self, instance: WorkflowInstance) -> WorkflowInstance:
        return replace(super()._checked(instance), revision=(instance.revision or 0) + 1)


class RevisionAlwaysRequired(InMemoryPersistenceProvider):
    def _check_unchanged(self, instance: WorkflowInstance) -> None:
        super()._check_unchanged(replace(instance, revision=instance.revision or 0))


class OrderLost(InMemoryPersistenceProvider):
    def _checked(self, instance: WorkflowInstance) -> WorkflowInstance:
        checked = super()._checked(instance)
        checked.execution_pointers.sort(key=lambda pointer: pointer.id)
        return checked


class RemovedPointersStay(InMemoryPersistenceProvider):
    def persist_workflow(self, instance: WorkflowInstance) -> None:
        before = self._store.workflows.get(instance.id)
        super().persist_workflow(instance)
        ids = {pointer.id for pointer in instance.execution_pointers}
        left = [pointer for pointer in before.execution_pointers if pointer.id not in ids] if before else []
        self._store.workflows[instance.id].execution_pointers += left


class SameObjectIsUnchanged(InMemoryPersistenceProvider):
    """Compares fields by identity: saves a field only if it is a different object than the loaded one."""

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        self.loaded = super().get_workflow_instance(id)
        self.data, self.pointers = self.loaded.data, list(self.loaded.execution_pointers)
        return self.loaded

    def persist_workflow(self, instance: WorkflowInstance) -> None:
        before = self._store.workflows[instance.id]
        super().persist_workflow(instance)
        after = self._store.workflows[instance.id]
        if instance.data is self.data:
            after.data = before.data
        if instance is self.loaded and all(map(lambda a, b: a is b, self.pointers, instance.execution_pointers)):
            after.execution_pointers = before.execution_pointers


class CopiesSavedByDifference(InMemoryPersistenceProvider):
    """Treats a copy like the loaded object, and assumes that its pointers are stored."""

    def persist_workflow(self, instance: WorkflowInstance) -> None:
        stored = self._store.workflows[instance.id].execution_pointers
        super().persist_workflow(instance)
        known = {pointer.id: pointer for pointer in stored}
        after = self._store.workflows[instance.id]
        after.execution_pointers = [known.get(pointer.id, pointer) for pointer in after.execution_pointers]


class SavedInTwoSteps(InMemoryPersistenceProvider):
    def persist_workflow(self, instance: WorkflowInstance) -> None:
        with self._store.lock:
            before = self._store.workflows[instance.id]
            self._store.workflows[instance.id] = replace(before, data=instance.data)
        time.sleep(ROUND_TRIP)
        super().persist_workflow(instance)


class CallersObjectKept(InMemoryPersistenceProvider):
    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        new_id = super().create_new_workflow(instance)
        self._store.workflows[new_id] = instance
        return new_id


class StoredObjectReturned(InMemoryPersistenceProvider):
    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        return self._workflow(id)


class ObjectChangedFirst(InMemoryPersistenceProvider):
    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        instance.id = instance.id or "new"
        return super().create_new_workflow(instance)


class NamesNotUnique(InMemoryPersistenceProvider):
    def _named(self, name: str) -> WorkflowInstance | None:
        return None


class SubscriptionsWrittenFirst(InMemoryPersistenceProvider):
    def persist_workflow_with_subscriptions(
        self, instance: WorkflowInstance, subscriptions: Sequence[EventSubscription]
    ) -> None:
        for subscription in subscriptions:
            self.create_event_subscription(subscription)
        super().persist_workflow_with_subscriptions(instance, [])


class RefusedAfterWriting(InMemoryPersistenceProvider):
    def persist_workflow(self, instance: WorkflowInstance) -> None:
        before = self._store.workflows[instance.id]
        self._store.workflows[instance.id] = replace(deepcopy(before), description=instance.description)
        super().persist_workflow(instance)


class NaiveTimesAccepted(InMemoryPersistenceProvider):
    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        return super().create_new_workflow(replace(instance, create_time=instance.create_time.astimezone()))


class EveryStatusPolled(InMemoryPersistenceProvider):
    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        with self._store.lock:
            statuses = {it.id: it.status for it in self._store.workflows.values()}
            for it in self._store.workflows.values():
                it.status = WorkflowStatus.RUNNABLE
            found = super().get_runnable_instances(as_at, limit, definitions=definitions)
            for it in self._store.workflows.values():
                it.status = statuses[it.id]
        return found


class DueTooLate(InMemoryPersistenceProvider):
    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        return super().get_runnable_instances(as_at - timedelta(milliseconds=1), limit, definitions=definitions)

    def get_runnable_events(self, as_at: datetime, limit: int | None = None) -> list[str]:
        return super().get_runnable_events(as_at - timedelta(microseconds=1), limit)


class LimitIgnored(InMemoryPersistenceProvider):
    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        return super().get_runnable_instances(as_at, definitions=definitions)


class LatestFirst(InMemoryPersistenceProvider):
    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        return super().get_runnable_instances(as_at, definitions=definitions)[::-1][:limit]

    def get_events(self, event_name: str, event_key: str, as_of: datetime, limit: int | None = None) -> list[str]:
        return super().get_events(event_name, event_key, as_of, limit)[::-1]


class SequenceReadThenWritten(InMemoryPersistenceProvider):
    def next_definition_sequence(self, definition_id: str) -> int:
        number = self._store.sequences.get(definition_id, 0) + 1
        time.sleep(ROUND_TRIP)
        self._store.sequences[definition_id] = number
        return number
