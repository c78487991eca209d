"""An application table with a foreign key to the workflows, and a stored workflow to refer to."""

from sqlalchemy import ForeignKey, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from wfe_postgres import ExecutionError, PostgresPersistenceProvider
from wfe_postgres.orm import WorkflowRow
from wfe_postgres.testing.conformance.support import at, created, pointer, subscription, workflow

Provider = PostgresPersistenceProvider


class ShopBase(DeclarativeBase):
    """Base class of the application's tables."""

    metadata = MetaData(schema="public")


class Invoice(ShopBase):
    """A row of the application that refers to a workflow."""

    __tablename__ = "invoices"

    number: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[str | None] = mapped_column(Text, ForeignKey(WorkflowRow.id, ondelete="SET NULL"))

    workflow: Mapped[WorkflowRow | None] = relationship(WorkflowRow)


def store_workflow(provider: Provider, id: str, *pointers: str) -> str:
    """Store a workflow with these pointers, a subscription and an execution error."""
    instance = created(provider, workflow(*(pointer(it) for it in pointers), id=id))
    waits = [subscription(id=f"of {id}", workflow_id=id)]
    provider.persist_workflow_with_subscriptions(instance, waits)
    provider.persist_errors([ExecutionError(id, "pointer", f"failed in {id}", error_time=at(0))])
    return id
