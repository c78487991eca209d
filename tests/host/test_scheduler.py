"""What a poll asks for."""

from collections.abc import Collection
from datetime import datetime

from tests.host.kit import note
from wfe_postgres import PersistenceError, WorkflowInstance
from wfe_postgres.host import WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider


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
