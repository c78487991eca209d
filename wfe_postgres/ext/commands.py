"""What the commands of the extensions share: they do what those of `wfe-postgres` do, on an application's store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wfe_postgres.host import WorkflowHost
from wfe_postgres.provider import PostgresPersistenceProvider


@contextmanager
def command_of_application(name: str, upgrade: str, refuse: Callable[[str], Exception]) -> Iterator[None]:
    """What is done in the block is a command of the application `name`, with the exit codes of `wfe-postgres`.

    - `upgrade`: the command that creates or repairs the store, for messages.
    - `refuse`: makes the framework's exception from a message. It is raised if the extra `cli` is not installed.
    """
    try:
        from wfe_postgres.cli.provider import Program, command_of
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"typer", "rich"}:
            raise
        raise refuse("this command needs typer and rich: pip install 'wfe-postgres[cli]'") from None
    with command_of(Program(name, upgrade=upgrade)):
        yield


@contextmanager
def provider_for_command(find: Callable[[], PostgresPersistenceProvider]) -> Iterator[PostgresPersistenceProvider]:
    """A provider on the engine and the schema of the application's. Errors, also those of `find`, are reported."""
    from wfe_postgres.cli.provider import exit_codes, provider_of

    with exit_codes(None):
        found = find()
    with provider_of(found.engine, found.schema) as provider:
        yield provider


def require_definitions(host: WorkflowHost, hint: str) -> WorkflowHost:
    """The host. ValueError: it has no definitions; the `hint` says how it is given them."""
    if not host.definitions:
        raise ValueError(f"there are no definitions: {hint}")
    return host
