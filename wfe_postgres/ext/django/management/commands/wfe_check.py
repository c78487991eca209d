"""`manage.py wfe_check`."""

from typing import Any

from wfe_postgres.ext.django.commands import StoreCommand
from wfe_postgres.provider import PostgresPersistenceProvider


class Command(StoreCommand):
    """As `wfe-postgres check`."""

    help: str = "Compare the store with its schema."

    def act(self, provider: PostgresPersistenceProvider, options: dict[str, Any]) -> None:
        """Do it; exit code 1: it has differences."""
        from wfe_postgres.cli.store import check_store

        check_store(provider)
