"""Workflows and their pointers: a save, a creation and a load are one statement each, at any size."""

import itertools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from wfe_postgres.codec.fields import (
    POINTER_FIELDS,
    STATE_FIELDS,
    SUBSCRIPTION_FIELDS,
    WORKFLOW_FIELDS,
    optional_json_fields,
)
from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.statements.expressions import (
    JSON_NULLS,
    bigint_parameter,
    bigints_parameter,
    builtin,
    insert_new,
    json_parameter,
    json_row,
    parameters,
    record_values,
    records,
    text_parameter,
    texts_parameter,
)
from wfe_postgres.statements.tables import pointers, sequences, subscriptions, workflows

_POINTER_NAMES = [field.column.key for field in POINTER_FIELDS]
_ROW_NAMES = [it.column.key for it in WORKFLOW_FIELDS if it.validate and it not in STATE_FIELDS]
_SUBSCRIPTION_NAMES = [field.column.key for field in SUBSCRIPTION_FIELDS]


def _insert_pointers(parent: sa.CTE, *, only_if_changed: bool = False, replace: bool = True) -> sa.CTE:
    """Store the records in `:pointers`, if the parent row was written; `replace` those that exist."""
    rows = records(pointers, [*_POINTER_NAMES, JSON_NULLS], "pointers")
    source = sa.select(parent.c.id, *record_values(rows, POINTER_FIELDS)).select_from(rows.join(parent, sa.true()))
    inserted = insert(pointers).from_select(["workflow_id", *_POINTER_NAMES], source)
    if not replace:
        return inserted.cte("written_pointers")
    names = [name for name in _POINTER_NAMES if name != "id"]
    differs = sa.func.row(*(pointers.c[name] for name in names)).is_distinct_from(
        sa.func.row(*(inserted.excluded[name] for name in names))
    )
    return inserted.on_conflict_do_update(
        index_elements=[pointers.c.workflow_id, pointers.c.id],
        set_={name: inserted.excluded[name] for name in names},
        where=differs if only_if_changed else None,
    ).cte("written_pointers")


def _insert_subscriptions(parent: sa.CTE) -> sa.CTE:
    rows = records(subscriptions, [*_SUBSCRIPTION_NAMES, JSON_NULLS], "subscriptions")
    source = sa.select(*record_values(rows, SUBSCRIPTION_FIELDS)).select_from(rows.join(parent, sa.true()))
    return insert(subscriptions).from_select(_SUBSCRIPTION_NAMES, source).cte("new_subscriptions")


def _delete_pointers(parent: sa.CTE, which: sa.ColumnElement[bool]) -> sa.CTE:
    of_parent = pointers.c.workflow_id == sa.select(parent.c.id).scalar_subquery()
    return sa.delete(pointers).where(of_parent, which).cte("removed_pointers")


def _save(*, row: bool, complete: bool, removes: bool, with_subscriptions: bool) -> sa.Executable:
    """The parent row first, under its revision; only if it was written, pointers and subscriptions.

    Complete: nothing is known of what the store holds, so `:kept` names all pointers there are, and those
    that are stored as they should be are not rewritten. Otherwise `:removed` names those that are gone; where none
    is, nothing looks for them, because that can cost a look at each pointer of the workflow.
    """
    unchanged = () if row else _ROW_NAMES
    values: dict[str, Any] = parameters(workflows, "id", "data", "last_heartbeat_at", *unchanged)
    values["revision"] = bigint_parameter("new_revision")
    # Unchanged data is not sent; the stored value then stays where it is, also outside the row (TOAST).
    values["data"] = sa.func.coalesce(json_parameter("data"), workflows.c.data)
    values["last_heartbeat_at"] = builtin.now()
    none_stored = ~sa.select(subscriptions.c.id).where(_is_any(subscriptions.c.id, "subscription_ids")).exists()
    saved = (
        sa.update(workflows)
        .where(workflows.c.id == text_parameter("workflow_id"))
        .where(workflows.c.revision == bigint_parameter("expected_revision"))
        .where(*[none_stored] * with_subscriptions)
        .values(values)
        .returning(workflows.c.id, FORCE_SYNCHRONOUS_COMMIT)
        .cte("saved")
    )
    parts = [_insert_pointers(saved, only_if_changed=complete)]
    if complete or removes:
        gone = pointers.c.id != sa.all_(texts_parameter("kept")) if complete else _is_any(pointers.c.id, "removed")
        parts.append(_delete_pointers(saved, gone))
    if with_subscriptions:
        parts.append(_insert_subscriptions(saved))
    return sa.select(saved.c.id).add_cte(*parts)


def _is_any(column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
    return column == sa.any_(texts_parameter(parameter))


def _create() -> sa.Executable:
    created = insert_new(workflows, "last_heartbeat_at").cte("created")
    return sa.select(created.c.id).add_cte(_insert_pointers(created, replace=False))


def _load(which: sa.ColumnElement[bool], whose: sa.ColumnElement[bool], *, with_ids: bool = False) -> sa.Executable:
    """The JSON row of each of `which` workflows, then one for each pointer of theirs (`whose`), in its order.

    A pointer's ends with which of its columns hold JSON null. `with_ids`: after the workflow's id. One statement, so
    one snapshot.
    """
    own = sa.select(
        workflows.c.id.label("workflow_id"),
        json_row(WORKFLOW_FIELDS).label("json_row"),
        sa.null().label("position"),
        sa.literal_column("ctid").label("place"),
    ).where(which)
    are_null = [_is_json_null(pointers.c[it.column.key]) for it in optional_json_fields(POINTER_FIELDS)]
    json_nulls = sa.case((sa.or_(*are_null), builtin.json_build_array(*are_null)))
    of_pointers = sa.select(
        pointers.c.workflow_id,
        json_row(POINTER_FIELDS, json_nulls),
        pointers.c.position,
        sa.literal_column("ctid"),
    ).where(whose)
    rows = sa.union_all(own, of_pointers).subquery("rows").c
    # Pointers from before positions were kept all have the same one; they come as the table holds them.
    order = rows.position.nulls_first(), rows.place
    return sa.select(*[rows.workflow_id] * with_ids, rows.json_row).order_by(*order)


def _is_json_null(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    # The size is read without the value, which may be large and stored outside the row.
    return sa.and_(
        builtin.pg_column_size(column) < sa.literal_column("16"), column == sa.literal_column("'null'::jsonb")
    )


CREATE = _create()
SAVES = {
    form: _save(row=form[0], complete=form[1], removes=form[2], with_subscriptions=form[3])
    for form in itertools.product((False, True), repeat=4)
}
"""What saves a workflow under `:expected_revision`, and returns no row if that is not its revision.

By four flags: with the columns that a host does not change; complete, with all its pointers, otherwise with those that
have changed; some pointers are gone; with subscriptions.
"""

_NAMED = workflows.c.name == text_parameter("name")

GET = _load(workflows.c.id == text_parameter("workflow_id"), pointers.c.workflow_id == text_parameter("workflow_id"))
GET_BY_NAME = _load(_NAMED, pointers.c.workflow_id == sa.select(workflows.c.id).where(_NAMED).scalar_subquery())
GET_MANY = _load(
    _is_any(workflows.c.id, "workflow_ids"), _is_any(pointers.c.workflow_id, "workflow_ids"), with_ids=True
)

REVISION = sa.select(workflows.c.revision, workflows.c.status).where(workflows.c.id == text_parameter("workflow_id"))
LOCKED_REVISION = REVISION.with_for_update()

# The status is spelled out, not a parameter: only so can the planner prove that the partial index applies.
RUNNABLE = (
    sa.select(workflows.c.id)
    .where(sa.text("(status = 'Runnable') IS TRUE"))
    .where(workflows.c.next_execution <= bigint_parameter("as_at"))
    .order_by(workflows.c.next_execution, workflows.c.id)
    .limit(bigint_parameter("limit"))
)


def _runnable_of_definitions() -> sa.Executable:
    """As `RUNNABLE`, of the definitions in `:definition_ids` and `:versions`: one index scan for each, then merged."""
    ids, versions = texts_parameter("definition_ids"), bigints_parameter("versions")
    # Of several arrays `unnest` is syntax, with PostgreSQL's own function, and takes no schema before it.
    known = sa.func.unnest(ids, versions).table_valued("id", "version", name="known").render_derived()
    due = (
        RUNNABLE.with_only_columns(workflows.c.id, workflows.c.next_execution)
        .where(workflows.c.definition_id == known.c.id, workflows.c.version == known.c.version)
        .order_by(None)
        .order_by(workflows.c.next_execution)
        .lateral("due")
    )
    return (
        sa.select(due.c.id)
        .select_from(known.join(due, sa.true()))
        .order_by(due.c.next_execution, due.c.id)
        .limit(bigint_parameter("limit"))
    )


RUNNABLE_OF_DEFINITIONS = _runnable_of_definitions()

_counted = insert(sequences).values(definition_id=text_parameter("definition_id"), next_num=1)
NEXT_NUMBER = _counted.on_conflict_do_update(
    index_elements=[sequences.c.definition_id], set_={"next_num": sequences.c.next_num + 1}
).returning(sequences.c.next_num, FORCE_SYNCHRONOUS_COMMIT)
