"""For `status`: what is queued, and the locks that hosts hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable

from wfe_postgres import StoreNotReadyError
from wfe_postgres.cli.catalogue import Catalogue
from wfe_postgres.services import lock_statements, queue_statements


@dataclass(frozen=True)
class Locks:
    """The locks of `PostgresLockProvider` that are held."""

    held: int
    oldest: datetime | None
    """When the first of them was acquired."""


@dataclass(frozen=True)
class Depth:
    """What waits in one queue of `PostgresQueueProvider`."""

    queue: str
    ids: int
    oldest: datetime
    """When the first of them was queued."""


def locks_of(catalogue: Catalogue) -> Locks | None:
    """Read it, by one query. None: the store is older than the services."""
    rows = _read(catalogue, lock_statements.HELD)
    return None if rows is None else Locks(*rows[0])


def queues_of(catalogue: Catalogue) -> list[Depth] | None:
    """Those that are not empty, by one query. None: the store is older than the services."""
    rows = _read(catalogue, queue_statements.DEPTHS)
    return None if rows is None else sorted((Depth(*row) for row in rows), key=lambda it: it.queue)


def _read(catalogue: Catalogue, statement: Executable) -> list[tuple[Any, ...]] | None:
    try:
        return [tuple(row) for row in catalogue.read(statement, {})]
    except StoreNotReadyError:
        return None
