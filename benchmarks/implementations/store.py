"""What every way of keeping workflows can do, so that all are timed alike."""

from typing import ClassVar, Protocol

from wfe_postgres import WorkflowInstance


class Store(Protocol):
    """Keeps workflows. One thread uses it."""

    schema: ClassVar[str]
    """Where its tables lie; the provider and the floors share theirs."""

    def create(self, instance: WorkflowInstance) -> object:
        """Store a new workflow with its pointers."""

    def load(self, id: str) -> WorkflowInstance:
        """The workflow as it is stored, pointers in order."""

    def save(self, instance: WorkflowInstance) -> object:
        """Make the stored workflow equal to the instance, which was created, loaded or saved here before."""

    def take_back(self, instance: WorkflowInstance) -> None:
        """Remove the last pointer, from the instance and from the store. Not timed, so in the cheapest way there is."""

    def clear(self) -> None:
        """Empty its tables."""

    def close(self) -> None:
        """Release the connections."""
