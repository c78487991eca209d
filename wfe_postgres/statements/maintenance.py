"""The deletion of what has ended, is old, or belongs to nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import sqlalchemy as sa

from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.contract.models import CommandName
from wfe_postgres.statements.expressions import (
    as_text,
    bigint_parameter,
    bigints_parameter,
    builtin,
    first_rows,
    parameter_for,
    text_parameter,
    texts_parameter,
    timestamp_parameter,
)
from wfe_postgres.statements.tables import commands, errors, events, pointers, subscriptions, workflows


def _delete_workflows() -> sa.Executable:
    """The workflows in `:ids` with all that is theirs; their rows are locked before, so that a
    writer who was about to add a pointer has done so, and is seen, or waits."""
    of_them = sa.any_(texts_parameter("ids"))
    gone = [
        sa.delete(table).where(table.c.workflow_id == of_them).cte(f"gone_{table.name}")
        for table in (pointers, subscriptions, errors)
    ]
    return (
        sa.delete(workflows)
        .where(workflows.c.id == of_them)
        .returning(workflows.c.id, FORCE_SYNCHRONOUS_COMMIT)
        .add_cte(*gone)
    )


DELETE_WORKFLOWS = _delete_workflows()

_ALWAYS = sa.true()
_ONE: sa.ColumnElement[Any] = sa.literal_column("1")
_START = {sa.DateTime: "-infinity", sa.Text: "", sa.Integer: -1}


@dataclass(frozen=True, eq=False)
class Purge:
    """Which rows of a table to delete. Batches of those that are `old` are looked at in an order that an index has."""

    table: sa.Table
    old: sa.ColumnElement[bool]
    order: Sequence[sa.Column[Any]]
    deletion: sa.Executable
    removable: sa.ColumnElement[bool] = _ALWAYS
    """What else must be so, evaluated for each old row: as a join it could read other tables from end to end."""
    with_rows_of: Sequence[sa.Table] = ()
    """Tables of which the rows with its `workflow_id` are deleted as well."""

    @property
    def start(self) -> list[Any]:
        """A place before all rows, in this order."""
        return [_START[type(it.type)] for it in self.order]

    def tables(self, schema: str) -> dict[str, Any]:
        """The parameters of `RESTRICTING_KEYS`."""
        owned = [(self.table, "id"), *((it, "workflow_id") for it in self.with_rows_of)]
        names = [f"{schema}.{table.name}" for table, _ in owned]
        return {"base": self.table.name, "tables": names, "columns": [column for _, column in owned]}


# Of each foreign key of an application's own to one of `:tables` that neither cascades nor sets NULL: its table, and as
# a condition in SQL, that no row there refers to a row whose column, one of `:columns`, has the id of a row of `:base`.
RESTRICTING_KEYS = sa.text("""
SELECT c.conrelid::regclass::text,
       pg_catalog.format('NOT EXISTS (SELECT FROM %s AS t JOIN %s AS r ON %s WHERE t.%I = %I.id)',
           c.confrelid::regclass, c.conrelid::regclass,
           pg_catalog.string_agg(pg_catalog.format('r.%I = t.%I', own.attname, ours.attname), ' AND '),
           owned.link, CAST(:base AS text))
  FROM unnest(CAST(:tables AS regclass[]), :columns) AS owned (oid, link)
  JOIN pg_catalog.pg_constraint AS c ON c.confrelid = owned.oid
 CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey)) AS k (own, ours)
  JOIN pg_catalog.pg_attribute AS own ON own.attrelid = c.conrelid AND own.attnum = k.own
  JOIN pg_catalog.pg_attribute AS ours ON ours.attrelid = c.confrelid AND ours.attnum = k.ours
 WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confdeltype IN ('a', 'r')
   AND c.conrelid <> ALL (CAST(:tables AS regclass[]))
 GROUP BY c.oid, c.conrelid, c.confrelid, owned.link
""").bindparams(texts_parameter("tables"), texts_parameter("columns"))


@cache
def batch(purge: Purge, unreferenced: tuple[str, ...] = ()) -> sa.Executable:
    """Looks at `:batch_size` old rows after a place, and locks those of them that are removable and locked by nobody.

    One row: how many it looked at, the place of the last, as JSON the ids of those to delete, and whether there are
    others for which one of the conditions `unreferenced`, of `RESTRICTING_KEYS`, does not hold.
    """
    table, place = purge.table, sa.tuple_(*purge.order)
    after = sa.tuple_(*(parameter_for(it) for it in purge.order))
    old = sa.select(table.c.id, *(it.label(f"at_{it.key}") for it in purge.order)).where(purge.old, place > after)
    looked_at = first_rows(old, lambda columns: [*columns][1:], bigint_parameter("batch_size")).cte("looked_at")
    _, *places = looked_at.c
    is_free = sa.literal_column(" AND ".join(("true", *unreferenced)), sa.Boolean())
    locked = (
        sa.select(table.c.id, is_free.label("is_free"))
        # As an array: joined with it, the table would be read from one end to the other. IS TRUE: by no other index.
        .where(
            table.c.id == sa.any_(sa.func.array(sa.select(looked_at.c.id).scalar_subquery())), purge.old.is_(sa.true())
        )
        .where(purge.removable)
        .with_for_update(skip_locked=True)
        .cte("locked")
    )
    last = sa.select(as_text(builtin.json_build_array(*places))).order_by(*(it.desc() for it in places)).limit(_ONE)
    return sa.select(
        sa.select(sa.func.count()).select_from(looked_at).scalar_subquery(),
        last.scalar_subquery(),
        sa.select(as_text(builtin.json_agg(locked.c.id))).where(locked.c.is_free).scalar_subquery(),
        sa.select(sa.func.count()).where(~locked.c.is_free).scalar_subquery(),
    )


def _delete(table: sa.Table, ids: sa.ColumnElement[Any]) -> sa.Executable:
    return sa.delete(table).where(table.c.id == sa.any_(ids)).returning(table.c.id, FORCE_SYNCHRONOUS_COMMIT)


def _is_none(
    of: sa.ColumnElement[Any], column: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool] | sa.TextClause
) -> sa.ColumnElement[bool]:
    """Whether there is no such row. With OFFSET the planner cannot make a join of it."""
    return ~sa.select(_ONE).where(of == column, *conditions).offset(sa.literal_column("0")).exists()


def _family(table: sa.FromClause) -> sa.ColumnElement[str]:
    return sa.func.coalesce(table.c.root_workflow_id, table.c.id)


_roots, _members = workflows.alias("roots"), workflows.alias("members")
# Spelled out, not parameters: only so can the planner prove that the partial index applies.
_OPEN = sa.text("members.root_workflow_id IS NOT NULL AND members.status NOT IN ('Complete', 'Terminated')")
_family_has_ended = sa.and_(
    _is_none(_roots.c.id, workflows.c.root_workflow_id, sa.text("roots.status NOT IN ('Complete', 'Terminated')")),
    _is_none(_family(_members), _family(workflows), _OPEN),
)
_older_than = timestamp_parameter("older_than")
_text_ids, _number_ids = texts_parameter("ids"), bigints_parameter("ids")

WORKFLOWS = Purge(
    workflows,
    (workflows.c.status == text_parameter("status")) & (workflows.c.complete_time < _older_than),
    (workflows.c.complete_time, workflows.c.id),
    DELETE_WORKFLOWS,
    _family_has_ended,
    (pointers, subscriptions, errors),
)
EVENTS = Purge(
    events,
    events.c.is_processed & (events.c.event_time < _older_than),
    (events.c.event_time, events.c.id),
    _delete(events, _text_ids),
)
ERRORS = Purge(
    errors, errors.c.error_time < _older_than, (errors.c.error_time, errors.c.id), _delete(errors, _number_ids)
)
ORPHANS = (
    Purge(
        subscriptions,
        subscriptions.c.subscribe_as_of < _older_than,
        (subscriptions.c.id,),
        _delete(subscriptions, _text_ids),
        _is_none(workflows.c.id, subscriptions.c.workflow_id),
    ),
    replace(ERRORS, removable=_is_none(workflows.c.id, errors.c.workflow_id)),
    *(
        Purge(
            commands,
            (commands.c.command_name == name.value) & (commands.c.execute_time < bigint_parameter("older_than_ms")),
            (commands.c.data,),
            _delete(commands, _number_ids),
            _is_none(target.c.id, commands.c.data),
        )
        for name, target in ((CommandName.PROCESS_WORKFLOW, workflows), (CommandName.PROCESS_EVENT, events))
    ),
)


REFERENCING_TABLES = sa.text("""
SELECT DISTINCT c.conrelid::regclass::text FROM pg_catalog.pg_constraint AS c
 WHERE c.contype = 'f' AND c.confrelid = ANY (CAST(:tables AS regclass[]))
   AND c.conrelid <> ALL (CAST(:tables AS regclass[]))
 ORDER BY 1
""").bindparams(texts_parameter("tables"))
"""Tables of an application's own that have a foreign key to one of `:tables`."""


@cache
def truncate(tables: tuple[str, ...]) -> sa.Executable:
    """Empties the tables and restarts their sequences."""
    return sa.text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
