"""Look up workflows without reading their data and pointers, so that unreadable ones are found, too."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, Table, Text, func, literal_column, or_, select
from sqlalchemy import cast as sql_cast

from wfe_postgres import WorkflowNotFoundError
from wfe_postgres.cli.catalogue import Catalogue, workflows
from wfe_postgres.codec.validation import text
from wfe_postgres.orm import PointerRow
from wfe_postgres.statements.expressions import builtin, text_parameter
from wfe_postgres.statements.tables import table_of

pointers: Table = table_of(PointerRow)

_IS_ID = workflows.c.id == text_parameter("wanted")
# As text, because not every timestamp of PostgreSQL is one of Python's.
_END = builtin.to_char(
    builtin.timezone(literal_column("'UTC'"), workflows.c.complete_time), literal_column("'YYYY-MM-DD HH24:MI:SS'")
)
FIND: Executable = (
    select(
        workflows.c.id,
        workflows.c.name,
        workflows.c.definition_id,
        workflows.c.version,
        workflows.c.status,
        sql_cast(_END, Text()),
    )
    .where(or_(_IS_ID, workflows.c.name == text_parameter("wanted")))
    .order_by(_IS_ID.desc())
    .limit(1)
)
UNFINISHED_STEPS: Executable = (
    select(
        pointers.c.step_id,
        pointers.c.step_name,
        pointers.c.id,
        pointers.c.status,
        func.coalesce(pointers.c.retry_count, literal_column("0")),
    )
    .where(
        pointers.c.workflow_id == text_parameter("workflow_id"),
        pointers.c.status.in_([literal_column("'Failed'"), literal_column("'Running'")]),
    )
    .order_by(pointers.c.position)
)


@dataclass(frozen=True)
class Found:
    """A workflow as it was when it was looked up."""

    id: str
    name: str
    definition_id: str
    version: int
    status: str
    end: str | None = None
    """Its `complete_time`, in UTC."""


@dataclass(frozen=True)
class Step:
    """A step that failed, or that was running."""

    step_id: int
    step_name: str | None
    pointer_id: str
    status: str
    retry_count: int


def find_workflow(catalogue: Catalogue, id_or_name: str) -> Found:
    """The workflow with this id or, if there is none, with this name. Raises `WorkflowNotFoundError`."""
    rows = catalogue.read(FIND, {"wanted": text(id_or_name, "workflow")})
    if not rows:
        raise WorkflowNotFoundError(id_or_name)
    return Found(*rows[0])


def unfinished_steps(catalogue: Catalogue, workflow_id: str) -> list[Step]:
    """The steps of a workflow that have failed or that were running, in their order."""
    rows: Any = catalogue.read(UNFINISHED_STEPS, {"workflow_id": workflow_id})
    return [Step(*row) for row in rows]
