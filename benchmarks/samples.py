"""The sample workflow: an order with sequential steps."""

from datetime import UTC, datetime, timedelta

from wfe_postgres import ExecutionPointer, PointerStatus, WorkflowInstance

BEGIN = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)


def order(pointers: int, *, id: str = "") -> WorkflowInstance:
    """An order with `pointers` pointers: the last one is running, the others are complete."""
    data = {"customer": "C-10021", "currency": "EUR", "lines": [{"sku": "A-1", "quantity": 2, "price": 1995}]}
    instance = WorkflowInstance("order", 1, data, reference="O-4711", create_time=BEGIN)
    if id:
        instance.id = instance.name = id
    for index in range(pointers):
        instance.execution_pointers.append(_pointer(instance, index))
        if index < pointers - 1:
            _complete(instance.execution_pointers[index])
    return instance


def take_step(instance: WorkflowInstance) -> None:
    """Complete the last pointer and add the next one, like a host between load and save."""
    last = instance.execution_pointers[-1]
    _complete(last)
    instance.execution_pointers.append(_pointer(instance, last.step_id + 1))


def _pointer(instance: WorkflowInstance, step: int) -> ExecutionPointer:
    before = instance.execution_pointers[-1].id if instance.execution_pointers else None
    return ExecutionPointer(
        step,
        id=f"{instance.id}-{step}",
        step_name=f"step {step % 20}",
        status=PointerStatus.RUNNING,
        start_time=BEGIN + timedelta(seconds=step),
        persistence_data={"attempt": 1, "worker": f"host-{step % 8}"},
        predecessor_id=before,
    )


def _complete(pointer: ExecutionPointer) -> None:
    done = 0 if pointer.outcome is None else pointer.outcome["done"] + 1
    pointer.active = False
    pointer.status = PointerStatus.COMPLETE
    pointer.end_time = BEGIN + timedelta(seconds=pointer.step_id + 1, microseconds=done)
    pointer.outcome = {"done": done, "charged": {"amount": 1995, "currency": "EUR"}, "note": "as ordered"}
