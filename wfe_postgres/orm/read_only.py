"""Refuses in a session what is written through the repositories, and DDL from the metadata."""

from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper

from wfe_postgres.orm.base import Base
from wfe_postgres.orm.tables import WorkflowRow


def _refuse_ddl(*_: object, **__: object) -> None:
    raise InvalidRequestError("the store is made by ensure_store_exists() or `wfe-postgres upgrade`, not from metadata")


def _refuse_write(mapper: Mapper[Any], _: Connection, row: Base) -> None:
    raise InvalidRequestError(f"{mapper.class_.__name__} is read-only in a session: write it through the repositories")


def _refuse_parts(_: object, __: Connection, row: WorkflowRow) -> None:
    for name in ("id", "data", "revision"):
        if inspect(row).attrs[name].history.has_changes():
            raise InvalidRequestError(
                f"WorkflowRow.{name} is read-only in a session: write it through the repositories"
            )


def _listen() -> None:
    for name in ("before_create", "before_drop"):
        event.listen(Base.metadata, name, _refuse_ddl)
    for mapper in Base.registry.mappers:
        for name in ("before_insert", "before_update", "before_delete"):
            updates_workflow = mapper.class_ is WorkflowRow and name == "before_update"
            event.listen(mapper.class_, name, _refuse_parts if updates_workflow else _refuse_write)


_listen()
