"""An order of the application and the workflow that handles it, in one transaction: both, or neither.

    python examples/one_transaction.py

It works in the database that WFE_DATABASE_URL names, where it leaves the order that it committed, else on a private
PostgreSQL that is gone afterwards.
"""

from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from wfe_postgres import ExecutionPointer, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.embedded import temporary_postgres


class Base(DeclarativeBase):
    """The application's own tables."""


class Order(Base):
    """What the application knows of an order."""

    __tablename__ = "example_orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    lines: Mapped[int]


class CardDeclinedError(Exception):
    """Something goes wrong after everything was written, and before it is committed."""


def place_order(session: Session, provider: PostgresPersistenceProvider, number: str, lines: int) -> None:
    """Store the order and start its workflow. Nothing is committed: that is the affair of the session's owner."""
    session.add(Order(number=number, lines=lines))
    workflow = WorkflowInstance("order", 1, {"lines": lines}, reference=number)
    workflow.execution_pointers.append(ExecutionPointer(step_id=0, step_name="reserve"))
    provider.using(session).create_new_workflow(workflow)


def report(provider: PostgresPersistenceProvider, number: str, event: str) -> None:
    """Count what stands in the database, in a transaction of its own."""
    with Session(provider.engine) as session:
        orders = session.scalar(select(func.count()).where(Order.number == number))
    workflows = len(provider.find_workflows(reference=number).items)
    print(f"{event}: {orders} order and {workflows} workflow in the database")


def main() -> None:
    """Place an order and commit it; place another and roll it back."""
    with temporary_postgres("WFE_DATABASE_URL") as url, PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()
        Base.metadata.create_all(provider.engine)

        number = str(uuid4())
        with Session(provider.engine) as session, session.begin():
            place_order(session, provider, number, lines=3)
            report(provider, number, "before the commit")
        report(provider, number, "after the commit")

        number = str(uuid4())
        try:
            with Session(provider.engine) as session, session.begin():
                place_order(session, provider, number, lines=5)
                raise CardDeclinedError
        except CardDeclinedError:
            report(provider, number, "after a rollback")


if __name__ == "__main__":
    main()
