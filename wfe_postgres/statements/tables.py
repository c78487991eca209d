"""The tables under the mapped classes: what a statement needs that no session runs."""

from typing import cast

from sqlalchemy import Table

from wfe_postgres.orm import Base, CommandRow, ErrorRow, EventRow, PointerRow, SequenceRow, SubscriptionRow, WorkflowRow


def table_of(row: type[Base]) -> Table:
    """The Core table under a mapped class."""
    return cast(Table, row.__table__)


workflows: Table = table_of(WorkflowRow)
pointers: Table = table_of(PointerRow)
events: Table = table_of(EventRow)
subscriptions: Table = table_of(SubscriptionRow)
errors: Table = table_of(ErrorRow)
commands: Table = table_of(CommandRow)
sequences: Table = table_of(SequenceRow)
