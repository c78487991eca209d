"""For `status`: the locks that hosts hold."""

from dataclasses import dataclass
from datetime import datetime

from wfe_postgres import StoreNotReadyError
from wfe_postgres.cli.catalogue import Catalogue
from wfe_postgres.services import lock_statements


@dataclass(frozen=True)
class Locks:
    """The locks of `PostgresLockProvider` that are held."""

    held: int
    oldest: datetime | None
    """When the first of them was acquired."""


def locks_of(catalogue: Catalogue) -> Locks | None:
    """Read it, by one query. None: the store is older than the lock service."""
    try:
        [(held, oldest)] = catalogue.read(lock_statements.HELD, {})
    except StoreNotReadyError:
        return None
    return Locks(held, oldest)
