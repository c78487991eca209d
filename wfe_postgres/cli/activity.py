"""For `status`: what hosts are working at, and what seems to have no host."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, Executable, Table, Text, extract, func, literal_column, select, true
from sqlalchemy import cast as sql_cast

from wfe_postgres.cli.catalogue import Catalogue, workflows
from wfe_postgres.cli.text import from_millis
from wfe_postgres.orm import PointerRow
from wfe_postgres.statements.expressions import bigint_parameter, builtin
from wfe_postgres.statements.tables import table_of

pointers: Table = table_of(PointerRow)

LONGEST_LEASE = 3600
"""Seconds; claims with a longer lease are not looked for."""
MAX_LOOKED_AT = 2000
"""How many of the workflows that are due soon are looked at."""
OVERDUE = 60
"""Seconds for which a workflow has been due when it is shown."""
MAX_KINDS = 5
"""How many definitions are shown."""

_now = sql_cast(extract("epoch", builtin.statement_timestamp()) * 1000, BigInteger())
_is_runnable = literal_column("(status = 'Runnable') IS TRUE", Boolean())
_due = workflows.c.next_execution

# In the order of the index of runnable workflows: leases end before most alarms.
_soon = (
    select(workflows.c.id, _due)
    .where(_is_runnable, _due > _now, _due <= _now + literal_column(str(LONGEST_LEASE * 1000)))
    .order_by(_due)
    .limit(bigint_parameter("limit"))
    .subquery("soon")
)
# A pointer that contains others is Running as long as they are not done: nobody works at it. With the LIMIT, PostgreSQL
# finds the pointers of each workflow by their index, instead of reading all pointers.
_running = (
    select(pointers.c.id)
    .where(
        pointers.c.workflow_id == _soon.c.id,
        pointers.c.status == literal_column("'Running'"),
        func.coalesce(sql_cast(pointers.c.children, Text()), literal_column("'[]'")) == literal_column("'[]'"),
    )
    .limit(literal_column("1"))
    .lateral("running")
)
CLAIMED: Executable = select(func.count(), func.min(_soon.c.next_execution)).select_from(_soon.join(_running, true()))

# A new workflow is due at 0, which says nothing of how long it has been due.
_since = func.greatest(sql_cast(_due, Double()), sql_cast(extract("epoch", workflows.c.create_time), Double()) * 1000)
_limit = _now - literal_column(str(OVERDUE * 1000))
UNATTENDED: Executable = (
    select(workflows.c.definition_id, workflows.c.version, func.count(), func.min(_since).label("oldest"))
    .where(_is_runnable, _due <= _limit, _since <= _limit)
    .group_by(workflows.c.definition_id, workflows.c.version)
    .order_by(literal_column("oldest"))
    .limit(bigint_parameter("limit"))
)


@dataclass(frozen=True)
class Overdue:
    """The workflows of a definition that have been due for longer than a minute."""

    definition_id: str
    version: int
    workflows: int
    oldest: datetime | None
    """Since when the first of them has been due."""


@dataclass(frozen=True)
class Activity:
    """What hosts are working at, and what seems to have no host that knows its definition."""

    claimed: int
    """Workflows of which a host is running a step."""
    first_lease_end: datetime | None
    """When the first of their leases ends, unless it is renewed."""
    overdue: list[Overdue]
    """The longest due first."""


def activity_of(catalogue: Catalogue) -> Activity:
    """Read it, by two queries."""
    [(claimed, end)] = catalogue.read(CLAIMED, {"limit": MAX_LOOKED_AT})
    rows: Any = catalogue.read(UNATTENDED, {"limit": MAX_KINDS})
    overdue = [Overdue(id, version, number, from_millis(int(since))) for id, version, number, since in rows]
    return Activity(claimed, None if end is None else from_millis(end), overdue)
