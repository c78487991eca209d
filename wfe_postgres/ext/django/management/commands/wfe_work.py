"""`manage.py wfe_work`."""

import argparse
from typing import Any

from wfe_postgres.ext.django import current
from wfe_postgres.ext.django.commands import command
from wfe_postgres.ext.django.untyped import BaseCommand
from wfe_postgres.host import WorkflowHost


class Command(BaseCommand):
    """As `wfe-postgres work`, on the host of the project."""

    help: str = "Run the workflows of the project, until SIGTERM or SIGINT."

    def add_arguments(self, parser: Any) -> None:
        """As those of `wfe-postgres work`."""
        parser.add_argument("--processes", metavar="N", type=_positive, help="Run N processes, and replace them.")
        parser.add_argument("--threads", metavar="N", type=_positive, help="Threads of each process.")
        parser.add_argument("--stop-timeout", metavar="SECONDS", type=float, help="Stop without waiting longer.")
        parser.add_argument("--supervisor", type=int, help=argparse.SUPPRESS)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the host."""
        with command():
            from wfe_postgres.cli.working import work_for

            names = ("processes", "threads", "stop_timeout", "supervisor")
            work_for(_host, *(options[name] for name in names))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _host() -> WorkflowHost:
    host = current.host()
    if not host.definitions:
        raise ValueError("the project has no definitions: name them in the setting WFE['DEFINITIONS']")
    return host
