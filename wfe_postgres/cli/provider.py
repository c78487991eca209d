"""From the options to a provider and a workflow, and from what goes wrong to one line and an exit code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from sqlalchemy import make_url

from wfe_postgres import (
    CorruptRowError,
    PersistenceError,
    PostgresPersistenceProvider,
    StoreNotReadyError,
    WfeError,
    WorkflowInstance,
    WorkflowNotFoundError,
)
from wfe_postgres.cli.text import in_one_line
from wfe_postgres.embedded import EmbeddedPostgresError

RETRY_BUDGET = 2.0
"""Seconds for a server that does not answer: somebody is sitting before the terminal."""


class ExitCode(IntEnum):
    """What the exit codes mean, for every command."""

    OK = 0
    NO = 1
    NOT_READY = 2
    NO_DATABASE = 3
    INTERRUPTED = 130


@contextmanager
def provider_on(url: str | None, schema: str) -> Iterator[PostgresPersistenceProvider]:
    """The provider for the options; ValueError when one of them is missing or cannot be used."""
    if not url:
        raise ValueError("which database? --url postgresql://user:password@host:port/name, or WFE_DATABASE_URL")
    with PostgresPersistenceProvider(url, schema=schema, retry_budget=RETRY_BUDGET) as provider:
        yield provider


def find(provider: PostgresPersistenceProvider, id_or_name: str) -> WorkflowInstance:
    """The workflow of this id; if there is none, of this name. Raises `WorkflowNotFoundError`."""
    try:
        return provider.get_workflow_instance(id_or_name)
    except WorkflowNotFoundError:
        return provider.get_workflow_instance_by_name(id_or_name)


@contextmanager
def reported_errors(url: str | None) -> Iterator[None]:
    """Turn what people can do something about into one line and an exit code."""
    log, log_handler = logging.getLogger("wfe_postgres"), _Complaints(logging.ERROR)
    log.addHandler(log_handler)
    try:
        yield
    except StoreNotReadyError as error:
        fail(str(error), ExitCode.NOT_READY)
    except CorruptRowError as error:
        fail(str(error), ExitCode.NO)
    except PersistenceError as error:
        fail(str(error).replace("cannot connect:", f"cannot connect{to_address(url)}:", 1), ExitCode.NO_DATABASE)
    except WfeError as error:
        fail(str(error), ExitCode.NO)
    except (EmbeddedPostgresError, ValueError) as error:
        fail(str(error), ExitCode.NO_DATABASE)
    finally:
        log.removeHandler(log_handler)


class _Complaints(logging.Handler):
    """What the library logs as an error, a line each; without it, warnings of retries would be shown as well."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"wfe-postgres: {in_one_line(record.getMessage())}", err=True)


def fail(sentence: str, code: ExitCode) -> NoReturn:
    """Say in one line what is wrong, and end."""
    typer.echo(f"wfe-postgres: {in_one_line(sentence)}", err=True)
    raise typer.Exit(code)


def to_address(url: str | None) -> str:
    """Where the URL leads, without its password; nothing if an `@` in there leaves a doubt which part that is."""
    if not url or url.count("@") > 1:
        return ""
    parsed = make_url(url)
    return f" to {parsed.set(password=None, query={}).render_as_string().partition('//')[2]}"
