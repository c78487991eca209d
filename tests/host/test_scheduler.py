"""What a poll asks for, and in which order it is done."""

from collections.abc import Collection
from datetime import datetime

import pytest

from tests.host.kit import note
from wfe_postgres import PersistenceError, WorkflowInstance
from wfe_postgres.host import WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock


class Partly(InMemoryPersistenceProvider):
    """A store in which some workflows cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: set[str] = set()
        self.limits: list[int | None] = []

    def get_workflow_instance(self, id: str) -> WorkflowInstance:
        """See `WorkflowRepository`."""
        if id in self.unreadable:
            raise PersistenceError("it cannot be read")
        return super().get_workflow_instance(id)

    def get_runnable_instances(
        self, as_at: datetime, limit: int | None = None, *, definitions: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        """See `WorkflowRepository`."""
        self.limits.append(limit)
        return super().get_runnable_instances(as_at, limit, definitions=definitions)


def test_page_is_larger_only_as_long_as_something_due_cannot_be_done() -> None:
    provider = Partly()
    host = WorkflowHost(provider, [WorkflowBuilder("w").then(note("a")).build()])
    id = host.start_workflow("w", {"log": []})
    provider.unreadable.add(id)
    host.run_until_idle()
    host.run_until_idle()
    provider.unreadable.clear()
    provider.suspend_workflow(id)
    host.run_until_idle()
    host.run_until_idle()
    assert provider.limits == [50, 51, 51, 50]


@pytest.mark.parametrize("started", [False, True])
def test_poll_of_threads_begins_at_a_random_place_and_does_all_of_the_list(
    started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.randrange", lambda length: length - 3)
    ran: list[int] = []
    definition = WorkflowBuilder("order").then(lambda context: ran.append(context.data["number"]), name="run").build()
    provider, clock = InMemoryPersistenceProvider(), ManualClock()
    host = WorkflowHost(provider, [definition], threads=1, poll_interval=0.01, clock=clock)
    ids = []
    for number in range(10):
        workflow = definition.instance({"number": number}, next_execution=number)
        ids.append(provider.create_new_workflow(workflow))
    if started:
        with host:
            for id in ids:
                host.wait_for_workflow(id, timeout=10)
    else:
        host.run_until_idle()
    assert ran == ([7, 8, 9, 0, 1, 2, 3, 4, 5, 6] if started else list(range(10)))
