"""What the statements are made of: typed parameters, rows as JSON arrays, records from one JSON array.

A parameter always carries its type, so that no statement depends on a connection's adapters;
functions are PostgreSQL's own (`builtin`), independent of the search_path.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, insert
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import ReturningInsert

from wfe_postgres.codec.fields import Fields, optional_json_fields
from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT

JSON_NULLS = "json_nulls"
"""Of a record: which columns are to hold JSON null. See `record_values`."""

builtin: Any = sa.func.pg_catalog


def text_parameter(name: str) -> sa.BindParameter[str]:
    """A text parameter."""
    return sa.bindparam(name, type_=sa.Text())


def texts_parameter(name: str) -> sa.BindParameter[list[str]]:
    """A list of texts."""
    return sa.bindparam(name, type_=cast(Any, ARRAY(sa.Text())))


def bigint_parameter(name: str) -> sa.BindParameter[int]:
    """A 64-bit integer."""
    return sa.bindparam(name, type_=sa.BigInteger())


def bigints_parameter(name: str) -> sa.BindParameter[list[int]]:
    """A list of 64-bit integers."""
    return sa.bindparam(name, type_=cast(Any, ARRAY(sa.BigInteger())))


def seconds_parameter(name: str) -> sa.ColumnElement[Any]:
    """A length of time, handed in as seconds."""
    return sa.bindparam(name, type_=sa.Double()) * sa.literal_column("interval '1 second'")


def timestamp_parameter(name: str) -> sa.Cast[Any]:
    """A time, handed in as ISO 8601 text: read the same under every DateStyle and TimeZone."""
    return sa.cast(text_parameter(name), sa.DateTime(timezone=True))


def json_parameter(name: str) -> sa.Cast[Any]:
    """A JSON value, handed in as its text."""
    return sa.cast(text_parameter(name), JSONB())


def parameter_for(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The parameter of a column's name and type."""
    name = str(column.key)
    if isinstance(column.type, sa.DateTime):
        return timestamp_parameter(name)
    if isinstance(column.type, JSONB):
        return json_parameter(name)
    return sa.bindparam(name, type_=column.type)


def parameters(table: sa.Table, *without: str) -> dict[str, sa.ColumnElement[Any]]:
    """A parameter for each column of the table but some, by the column's name."""
    return {it.key: parameter_for(it) for it in table.columns if not it.system and it.key not in without}


def insert_new(table: sa.Table, *without: str) -> ReturningInsert[Any]:
    """Stores a row, of whose columns some have their defaults, and returns its id; none where its key is stored."""
    inserted = insert(table).values(parameters(table, *without)).on_conflict_do_nothing()
    return inserted.returning(table.c.id, FORCE_SYNCHRONOUS_COMMIT)


def equal_row(table: sa.Table, *without: str) -> sa.Executable:
    """The id of the row whose columns, but some, are equal to their parameters."""
    equal = (table.c[name].is_not_distinct_from(it) for name, it in parameters(table, "id", *without).items())
    return sa.select(table.c.id).where(table.c.id == text_parameter("id"), *equal)


def first_rows(
    query: sa.Select[Any], order: Callable[[Any], Sequence[sa.ColumnElement[Any]]], limit: sa.ColumnElement[int]
) -> sa.Select[Any]:
    """The first rows of the query in an order of its columns, of which an index has all but the last.

    Read with ties by that index, and only those sorted: the planner would sort all rows where it expects few.
    """
    most = sa.func.coalesce(limit, sa.literal_column(str(2**63 - 1)))
    columns = order(query.selected_columns)
    found = query.order_by(*columns[:-1] or columns).fetch(most, with_ties=True).subquery("found")
    return sa.select(*found.c).order_by(*order(found.c)).limit(limit)


def in_utc(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A time in UTC, without offset."""
    shown: sa.ColumnElement[Any] = builtin.timezone(sa.literal_column("'UTC'"), column)
    return shown


def as_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """The value as text."""
    return sa.cast(value, sa.Text())


def json_row(fields: Fields, *more: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """The row's columns of these fields, and more, as the text of one JSON array, times in UTC without offset."""
    return as_text(builtin.json_build_array(*(_readable(it.column) for it in fields), *more))


def records(table: sa.Table, names: Iterable[str], parameter: str) -> sa.TableValuedAlias:
    """A table of these columns, from a JSON array of objects handed in as one text parameter.

    (json_to_recordset: its jsonb sister gives up on a parameter of some 256 MB.)
    """
    types = {it.key: it.type for it in table.columns}
    columns = (sa.column(name, types.get(name, JSONB())) for name in names)
    rows: sa.FunctionElement[Any] = builtin.json_to_recordset(sa.cast(text_parameter(parameter), JSON()))
    return rows.table_valued(*columns, name="record").render_derived(name="record", with_types=True)


def record_values(rows: sa.TableValuedAlias, fields: Fields) -> list[sa.ColumnElement[Any]]:
    """What the columns of these fields become, from `records` with the column `JSON_NULLS` besides.

    In a record JSON null becomes SQL NULL. So that column holds an object with a null for each column that is to be
    JSON null.
    """
    optional = {it.column.key for it in optional_json_fields(fields)}

    def value(name: str) -> sa.ColumnElement[Any]:
        json_null = rows.c[JSON_NULLS].op("->")(sa.literal_column(f"'{name}'"))
        return sa.func.coalesce(rows.c[name], json_null) if name in optional else rows.c[name]

    return [value(it.column.key) for it in fields]


def _readable(column: InstrumentedAttribute[Any]) -> sa.ColumnElement[Any]:
    plain: sa.ColumnElement[Any] = column.property.columns[0]
    return in_utc(plain) if isinstance(plain.type, sa.DateTime) else sa.type_coerce(plain, plain.type)
