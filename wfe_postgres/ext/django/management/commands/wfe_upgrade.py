"""`manage.py wfe_upgrade`."""

import sys
from typing import Any

from wfe_postgres.ext.django.commands import StoreCommand
from wfe_postgres.provider import PostgresPersistenceProvider


class Command(StoreCommand):
    """As `wfe-postgres upgrade`."""

    help: str = "Create, upgrade or repair the store. `migrate` creates and upgrades it, too."

    def act(self, provider: PostgresPersistenceProvider, options: dict[str, Any]) -> None:
        """Do it; exit code 1: differences are left."""
        from wfe_postgres.cli.store import upgrade_store

        if not upgrade_store(provider):
            sys.exit(1)
