"""What the commands of `manage.py` share."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.core.management.base import CommandError

from wfe_postgres.ext.commands import command_of_application, provider_for_command
from wfe_postgres.ext.django import current
from wfe_postgres.ext.django.untyped import BaseCommand
from wfe_postgres.provider import PostgresPersistenceProvider


def command() -> AbstractContextManager[None]:
    """A command of the project. The extra `cli` has what it needs."""
    return command_of_application("manage.py", "manage.py wfe_upgrade", CommandError)


def at_least(least: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """The type of an option that is a number, and not less."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a valid number") from None
        if not number >= least:
            raise argparse.ArgumentTypeError(f"{text} is not in the range x>={least}")
        return number

    return parse


class StoreCommand(BaseCommand):
    """A command on the store."""

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it, with errors in one line and the exit codes of `wfe-postgres`."""
        with command(), provider_for_command(lambda: current.workflows().provider) as provider:
            self.act(provider, options)

    def act(self, provider: PostgresPersistenceProvider, options: dict[str, Any]) -> None:
        """What the command does."""
        raise NotImplementedError
