"""`manage.py wfe_work`."""

import argparse
from typing import Any

from wfe_postgres.ext.commands import require_definitions
from wfe_postgres.ext.django import current
from wfe_postgres.ext.django.commands import at_least, command
from wfe_postgres.ext.django.untyped import BaseCommand
from wfe_postgres.host import WorkflowHost


class Command(BaseCommand):
    """As `wfe-postgres work`, on the host of the project."""

    help: str = "Run the workflows of the project, until SIGTERM or SIGINT."

    def add_arguments(self, parser: Any) -> None:
        """As those of `wfe-postgres work`."""
        parser.add_argument(
            "--processes", metavar="N", type=at_least(1, int), help="Run N processes, and replace them."
        )
        parser.add_argument("--threads", metavar="N", type=at_least(1, int), help="Threads of each process.")
        parser.add_argument("--stop-timeout", metavar="SECONDS", type=at_least(0), help="Stop without waiting longer.")
        parser.add_argument("--supervisor", type=int, help=argparse.SUPPRESS)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the host."""
        with command():
            from wfe_postgres.cli.working import work_for

            names = ("processes", "threads", "stop_timeout", "supervisor")
            work_for(_host, *(options[name] for name in names))


def _host() -> WorkflowHost:
    return require_definitions(current.host(), "name them in the setting WFE['DEFINITIONS']")
