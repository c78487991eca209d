"""The bind of the store's classes in the sessions of Flask-SQLAlchemy, which knows those of its own models only."""

from typing import Any

from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import inspect

from wfe_postgres.orm import Base


class _FollowsBind:
    """Of a session class: the store's classes are in the bind that the current application's `WFE` names."""

    _db: SQLAlchemy

    def get_bind(self, mapper: Any = None, clause: Any = None, bind: Any = None, **arguments: Any) -> Any:
        if bind is None and mapper is not None and inspect(mapper).local_table.metadata is Base.metadata:
            workflows = current_app.extensions.get("wfe")
            if workflows is not None:
                return self._db.engines[workflows.wfe.bind_key]
        return super().get_bind(mapper, clause, bind, **arguments)  # type: ignore[misc]


def follow_bind(db: SQLAlchemy) -> None:
    """Let the sessions of `db` find the store's classes in the store's bind."""
    factory = db.session.session_factory
    if not issubclass(factory.class_, _FollowsBind):
        factory.class_ = type(factory.class_.__name__, (_FollowsBind, factory.class_), {})
