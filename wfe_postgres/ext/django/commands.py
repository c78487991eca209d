"""What the commands of `manage.py` share: they do what those of `wfe-postgres` do, on the project's store and host."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError

from wfe_postgres.ext.django import current
from wfe_postgres.ext.django.untyped import BaseCommand
from wfe_postgres.provider import PostgresPersistenceProvider


@contextmanager
def command() -> Iterator[None]:
    """A command of the project. The extra `cli` has what it needs."""
    try:
        from wfe_postgres.cli.provider import Program, command_of
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"typer", "rich"}:
            raise
        raise CommandError("this command needs typer and rich: pip install 'wfe-postgres[cli]'") from None
    with command_of(Program("manage.py", upgrade="manage.py wfe_upgrade")):
        yield


class StoreCommand(BaseCommand):
    """A command on the store."""

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it, with errors in one line and the exit codes of `wfe-postgres`."""
        with command():
            from wfe_postgres.cli.provider import exit_codes, provider_of

            with exit_codes(None):
                made = current.made()
            with provider_of(made.provider.engine, made.options.schema) as provider:
                self.act(provider, options)

    def act(self, provider: PostgresPersistenceProvider, options: dict[str, Any]) -> None:
        """What the command does."""
        raise NotImplementedError
