"""Alembic's autogenerate in an application whose database also holds the store: what it must not look at.

For the application's own `env.py`, or for Flask-Migrate's `Migrate(app, db, ...)`:

    context.configure(connection=connection, target_metadata=metadata, include_schemas=True, **exclude_store_tables())

Without it an application that sets `include_schemas` is offered a migration that drops the store's tables, and one
that maps a table of the store, to read it or to refer to it, a migration that creates that table.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from wfe_postgres.orm import SCHEMA

IncludeName = Callable[[str | None, Any, Any], bool]
IncludeObject = Callable[[Any, str | None, Any, bool, Any], bool]


class Filters(TypedDict):
    """Two keywords of Alembic's `context.configure`."""

    include_name: IncludeName
    """Asked before the database is reflected."""
    include_object: IncludeObject
    """Asked of what was reflected, and of what the application's metadata holds."""


def exclude_store_tables(
    schema: str = SCHEMA, *, include_name: IncludeName | None = None, include_object: IncludeObject | None = None
) -> Filters:
    """Filters that leave out the store's schema; of everything else the application's own decide, if there are any."""

    def name_is_included(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        its_schema = name if kind == "schema" else parents.get("schema_name")
        return its_schema != schema and (include_name is None or include_name(name, kind, parents))

    def object_is_included(item: Any, name: str | None, kind: str, reflected: bool, compared_to: Any) -> bool:
        # What has no schema of its own is part of a table; alembic_utils compares functions and views, which have one.
        owner = item if hasattr(item, "schema") else getattr(item, "table", None)
        return getattr(owner, "schema", None) != schema and (
            include_object is None or include_object(item, name, kind, reflected, compared_to)
        )

    return Filters(include_name=name_is_included, include_object=object_is_included)


def __getattr__(name: str) -> object:
    if name == "without_store":
        warnings.warn("without_store is called exclude_store_tables now", DeprecationWarning, stacklevel=2)
        return exclude_store_tables
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
