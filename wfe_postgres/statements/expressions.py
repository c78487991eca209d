"""What the statements are made of: typed parameters, rows as JSON arrays, records from one JSON array.

A parameter always carries its type, so that no statement depends on a connection's adapters;
functions are PostgreSQL's own (`builtin`), independent of the search_path.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Cast,
    ColumnElement,
    DateTime,
    Double,
    Executable,
    FunctionElement,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    column,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import InstrumentedAttribute

from wfe_postgres.codec.fields import Fields, optional_json_fields
from wfe_postgres.orm import Base

Columns = Sequence[InstrumentedAttribute[Any]]

JSON_NULLS = "json_nulls"
"""Of a record: which columns are to hold JSON null. See `record_values`."""

builtin: Any = func.pg_catalog


def table_of(row: type[Base]) -> Table:
    """The Core table under a mapped class: what a statement needs that no session runs."""
    return cast(Table, row.__table__)


def text_parameter(name: str) -> BindParameter[str]:
    """A text parameter."""
    return bindparam(name, type_=Text())


def texts_parameter(name: str) -> BindParameter[list[str]]:
    """A list of texts."""
    return bindparam(name, type_=cast(Any, ARRAY(Text())))


def bigint_parameter(name: str) -> BindParameter[int]:
    """A 64-bit integer."""
    return bindparam(name, type_=BigInteger())


def bigints_parameter(name: str) -> BindParameter[list[int]]:
    """A list of 64-bit integers."""
    return bindparam(name, type_=cast(Any, ARRAY(BigInteger())))


def seconds_parameter(name: str) -> ColumnElement[Any]:
    """A length of time, handed in as seconds."""
    return bindparam(name, type_=Double()) * literal_column("interval '1 second'")


def timestamp_parameter(name: str) -> Cast[Any]:
    """A time, handed in as ISO 8601 text: read the same under every DateStyle and TimeZone."""
    return sql_cast(text_parameter(name), DateTime(timezone=True))


def json_parameter(name: str) -> Cast[Any]:
    """A JSON value, handed in as its text."""
    return sql_cast(text_parameter(name), JSONB())


def parameter_for(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The parameter of a column's name and type."""
    name = str(column.key)
    if isinstance(column.type, DateTime):
        return timestamp_parameter(name)
    if isinstance(column.type, JSONB):
        return json_parameter(name)
    return bindparam(name, type_=column.type)


def parameters(row: type[Base], *without: str) -> dict[str, ColumnElement[Any]]:
    """A parameter for each column of the table but some, by the column's name."""
    return {it.key: parameter_for(it) for it in table_of(row).columns if not it.system and it.key not in without}


def equal_row(row: type[Base], *without: str) -> Executable:
    """The id of the row whose columns, but some, are equal to their parameters."""
    columns = table_of(row).c
    equal = (columns[name].is_not_distinct_from(value) for name, value in parameters(row, "id", *without).items())
    return select(columns.id).where(columns.id == text_parameter("id"), *equal)


def first_rows(
    query: Select[Any], order: Callable[[Any], Sequence[ColumnElement[Any]]], limit: ColumnElement[int]
) -> Select[Any]:
    """The first rows of the query in an order of its columns, of which an index has all but the last.

    Read with ties by that index, and only those sorted: the planner would sort all rows where it expects few.
    """
    most = func.coalesce(limit, literal_column(str(2**63 - 1)))
    columns = order(query.selected_columns)
    found = query.order_by(*columns[:-1] or columns).fetch(most, with_ties=True).subquery("found")
    return select(*found.c).order_by(*order(found.c)).limit(limit)


def json_row(columns: Columns) -> ColumnElement[str]:
    """The row's columns as the text of one JSON array, times in UTC without offset."""
    return sql_cast(builtin.json_build_array(*map(_readable, columns)), Text())


def records(row: type[Base], names: Iterable[str], parameter: str) -> TableValuedAlias:
    """A table of these columns, from a JSON array of objects handed in as one text parameter.

    (json_to_recordset: its jsonb sister gives up on a parameter of some 256 MB.)
    """
    columns = (column(name, _record_type(table_of(row).columns.get(name))) for name in names)
    rows: FunctionElement[Any] = builtin.json_to_recordset(sql_cast(text_parameter(parameter), JSON()))
    return rows.table_valued(*columns, name="record").render_derived(name="record", with_types=True)


def record_values(rows: TableValuedAlias, fields: Fields) -> list[ColumnElement[Any]]:
    """What the columns of these fields become, from `records` with the column `JSON_NULLS` besides.

    In a record JSON null becomes SQL NULL. So that column holds an object with a null for each column that is to be
    JSON null.
    """
    optional = {it.column.key for it in optional_json_fields(fields)}

    def value(name: str) -> ColumnElement[Any]:
        json_null = rows.c[JSON_NULLS].op("->")(literal_column(f"'{name}'"))
        return func.coalesce(rows.c[name], json_null) if name in optional else rows.c[name]

    return [value(it.column.key) for it in fields]


def _readable(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    plain = table_of(cast(type[Base], column.class_)).columns[column.key]
    return (
        builtin.timezone(literal_column("'UTC'"), plain)
        if isinstance(plain.type, DateTime)
        else type_coerce(plain, plain.type)
    )


def _record_type(column: ColumnElement[Any] | None) -> Any:
    if column is None:
        return JSONB()
    kinds = {Integer: Integer(), BigInteger: BigInteger(), Boolean: Boolean(), Text: Text(), JSONB: JSONB()}
    return kinds.get(type(column.type), DateTime(timezone=True))
