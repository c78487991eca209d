"""The seven tables as declarative classes, to query and join in an application's own session.

    select(Order, WorkflowRow).join(WorkflowRow, WorkflowRow.id == Order.workflow_id)

Reading is free. Of what is stored, the scalar columns of a `WorkflowRow` may be written; a row that was
changed since it was loaded is then a `StaleDataError`. Everything else is written through the repositories, and refused
here. Another schema than `wfc` is reached by SQLAlchemy's `schema_translate_map`.
"""

from wfe_postgres.orm import read_only as read_only
from wfe_postgres.orm import services as services
from wfe_postgres.orm.base import SCHEMA, Base
from wfe_postgres.orm.tables import (
    CommandRow,
    ErrorRow,
    EventRow,
    PointerRow,
    SequenceRow,
    SubscriptionRow,
    WorkflowRow,
)

__all__ = [
    "SCHEMA",
    "Base",
    "CommandRow",
    "ErrorRow",
    "EventRow",
    "PointerRow",
    "SequenceRow",
    "SubscriptionRow",
    "WorkflowRow",
]
