"""The provider, as its users use it."""

from typing import ClassVar

from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance


class Ours:
    """See `Store`. `provider` is there for what a store of workflows alone does not do."""

    schema: ClassVar[str] = "wfc"

    def __init__(self, url: str) -> None:
        self.provider = PostgresPersistenceProvider(url)
        self.create = self.provider.create_new_workflow
        self.load = self.provider.get_workflow_instance
        self.save = self.provider.persist_workflow
        self.clear = self.provider.truncate_all
        self.close = self.provider.close

    def take_back(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        instance.execution_pointers.pop()
        self.save(instance)
