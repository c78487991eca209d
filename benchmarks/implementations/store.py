"""The common interface of the implementations."""

from typing import ClassVar, Protocol

from wfe_postgres import WorkflowInstance


class Store(Protocol):
    """Stores workflows. Used by a single thread."""

    schema: ClassVar[str]
    """The schema of its tables; the provider and the baselines share one."""

    def create(self, instance: WorkflowInstance) -> object:
        """Store a new workflow with its pointers."""

    def load(self, id: str) -> WorkflowInstance:
        """Load a workflow with its pointers in order."""

    def save(self, instance: WorkflowInstance) -> object:
        """Save an instance that was created, loaded or saved by this store."""

    def undo_step(self, instance: WorkflowInstance) -> None:
        """Remove the last pointer from the instance and the store, as cheaply as possible. Not timed."""

    def clear(self) -> None:
        """Truncate its tables."""

    def close(self) -> None:
        """Close the connections."""
