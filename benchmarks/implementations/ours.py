"""The provider, used through its public API."""

from typing import ClassVar

from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance


class Ours:
    """See `Store`. `provider` gives access to the methods that `Store` does not have."""

    schema: ClassVar[str] = "wfc"

    def __init__(self, url: str) -> None:
        self.provider = PostgresPersistenceProvider(url)
        self.create = self.provider.create_new_workflow
        self.load = self.provider.get_workflow_instance
        self.save = self.provider.persist_workflow
        self.clear = self.provider.truncate_all
        self.close = self.provider.close

    def undo_step(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        instance.execution_pointers.pop()
        self.save(instance)
