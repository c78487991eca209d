"""The workflow host, used through its public API."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.contract.services import LifecycleEvent, LifecycleEventType
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowBuilder, WorkflowDefinition, WorkflowHost


@contextmanager
def host_engine(url: str, steps: int, threads: int, ended: Callable[[], object]) -> Iterator[Callable[[int], object]]:
    """See `Engine`. The host has its default settings; hosts in several processes run each other's workflows."""
    definition = _definition(steps)

    def listen(event: LifecycleEvent) -> None:
        if event.type is LifecycleEventType.COMPLETED:
            ended()

    with PostgresPersistenceProvider(url) as provider:
        host = WorkflowHost(provider, [definition], threads=threads)
        host.on(listen)

        def start(workflows: int) -> None:
            for _ in range(workflows):
                host.start_workflow(definition.id, {"steps": steps})

        with host:
            yield start


def _definition(steps: int) -> WorkflowDefinition:
    builder = WorkflowBuilder("order")
    for step in range(steps):
        builder.then(_charge, name=f"step {step}")
    return builder.build()


def _charge(context: StepContext) -> ExecutionResult:
    step = context.pointer.step_id
    return ExecutionResult.outcome({"done": step, "charged": {"amount": 1995, "currency": "EUR"}, "note": "as ordered"})
