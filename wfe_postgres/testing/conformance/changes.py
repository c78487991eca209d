"""Changes of a workflow that a save must store."""

from collections.abc import Callable
from typing import Any

from wfe_postgres.contract.models import ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.support import at, full_pointer, pointer

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
