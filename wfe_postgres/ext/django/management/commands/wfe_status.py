"""`manage.py wfe_status`."""

from typing import Any

from wfe_postgres.ext.django.commands import StoreCommand, at_least
from wfe_postgres.provider import PostgresPersistenceProvider


class Command(StoreCommand):
    """As `wfe-postgres status`."""

    help: str = "Show the backlog and the table sizes."

    def add_arguments(self, parser: Any) -> None:
        """As those of `wfe-postgres status`."""
        parser.add_argument("--watch", action="store_true", help="Refresh until Ctrl-C.")
        every = {"type": at_least(0.1), "default": 2.0}
        parser.add_argument("--every", metavar="SECONDS", help="Interval for --watch.", **every)
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def act(self, provider: PostgresPersistenceProvider, options: dict[str, Any]) -> None:
        """Do it."""
        from wfe_postgres.cli.overview import show_status

        show_status(provider, options["watch"], options["every"], options["json"])
