"""Stores an order of the application and its workflow in one transaction.

    python examples/one_transaction.py

It uses the database in WFE_DATABASE_URL, where the committed order is kept, or a temporary PostgreSQL server.
"""

from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from wfe_postgres import ExecutionPointer, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.embedded import temporary_postgres


class Base(DeclarativeBase):
    """The declarative base of the application."""


class Order(Base):
    """An order of the application."""

    __tablename__ = "example_orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    lines: Mapped[int]


class CardDeclinedError(Exception):
    """Raised after all writes and before the commit."""


def place_order(session: Session, provider: PostgresPersistenceProvider, number: str, lines: int) -> None:
    """Store the order and its workflow, without a commit: the caller owns the transaction."""
    session.add(Order(number=number, lines=lines))
    workflow = WorkflowInstance("order", 1, {"lines": lines}, reference=number)
    workflow.execution_pointers.append(ExecutionPointer(step_id=0, step_name="reserve"))
    provider.using(session).create_new_workflow(workflow)


def report(provider: PostgresPersistenceProvider, number: str, event: str) -> None:
    """Count the stored orders and workflows in a separate transaction."""
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
