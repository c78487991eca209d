"""The declarative base, the column types and the name of the schema."""

from datetime import datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Integer, MetaData, Text, inspect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import UserDefinedType

SCHEMA = "wfc"


def version_table(schema: str) -> str:
    """The name of Alembic's table for the store; in schema `public`, `alembic_version` is the application's."""
    return "wfe_alembic_version" if schema == "public" else "alembic_version"


class RowAddress(UserDefinedType[str]):
    """PostgreSQL's tid: where a row version lies in its table."""

    cache_ok: bool | None = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in SQL."""
        return "tid"


Serial = Annotated[int, mapped_column(Integer, primary_key=True, autoincrement=True)]
Timestamp = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Json = Annotated[Any, mapped_column(JSONB(none_as_null=True))]
BigInt = Annotated[int, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    """The tables' common root. `metadata.create_all()` and `drop_all()` are refused: migrations make the store."""

    metadata: ClassVar[MetaData] = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
        },
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text()}

    def __repr__(self) -> str:
        state = inspect(self)
        key = state.identity or state.mapper.primary_key_from_instance(self)
        return f"{type(self).__name__}({', '.join(map(repr, key))})"
