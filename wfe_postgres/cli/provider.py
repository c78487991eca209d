"""Create a provider from the options, find a workflow, ask, and turn exceptions into messages and exit codes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

import typer
from rich.text import Text
from sqlalchemy import Engine

from wfe_postgres import (
    CorruptRowError,
    OutcomeUnknownError,
    PersistenceError,
    PostgresPersistenceProvider,
    SerializationError,
    StoreNotReadyError,
    WfeError,
    WorkflowInstance,
    WorkflowNotFoundError,
)
from wfe_postgres.cli.screen import make_console, show
from wfe_postgres.cli.text import in_one_line
from wfe_postgres.connections.engines import parse_url
from wfe_postgres.embedded import EmbeddedPostgresError
from wfe_postgres.orm import SCHEMA

RETRY_BUDGET = 2.0
"""Seconds for retries when the server does not answer; short because the command is interactive."""


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0
    NO = 1
    NOT_READY = 2
    USAGE = 2
    NO_DATABASE = 3
    NO_OUTPUT = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Program:
    """Whose commands these are: `wfe-postgres`, or an application that has some of them among its own."""

    name: str = "wfe-postgres"
    upgrade: str | None = None
    """The command that creates or repairs the store of an application."""


_OWN = Program()
_PROGRAM: ContextVar[Program] = ContextVar("_PROGRAM", default=_OWN)


@contextmanager
def command_of(program: Program) -> Iterator[None]:
    """What is done in the block is a command of an application's own: it ends with `SystemExit`, not `typer.Exit`."""
    token = _PROGRAM.set(program)
    try:
        yield
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        _PROGRAM.reset(token)


@contextmanager
def provider_of(engine: Engine, schema: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider for a command, on an application's engine. Errors are reported."""
    with reported_errors(str(engine.url)), _upgrade_named(schema):
        yield PostgresPersistenceProvider.from_engine(engine, schema=schema, retry_budget=RETRY_BUDGET)


@contextmanager
def provider_on(url: str | None, schema: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider for the given options. Raises `ValueError` if an option is missing or invalid."""
    if not url:
        raise ValueError("no database: pass --url postgresql://user:password@host:port/name or set WFE_DATABASE_URL")
    make = PostgresPersistenceProvider
    with make(url, schema=schema, retry_budget=RETRY_BUDGET) as provider, _upgrade_named(schema):
        yield provider


@contextmanager
def _upgrade_named(schema: str) -> Iterator[None]:
    try:
        yield
    except StoreNotReadyError as error:
        raise StoreNotReadyError(naming_the_upgrade(str(error), schema)) from error


def naming_the_upgrade(message: str, schema: str) -> str:
    """The library's message, with the command that is to be typed here."""
    return message.replace("wfe-postgres upgrade", upgrade_command(schema))


def upgrade_command(schema: str) -> str:
    """The command that creates or repairs the store in this schema."""
    if (command := _PROGRAM.get().upgrade) is not None:
        return command
    return "wfe-postgres upgrade" if schema == SCHEMA else f"wfe-postgres upgrade --schema {schema}"


def find(provider: PostgresPersistenceProvider, id_or_name: str) -> WorkflowInstance:
    """The workflow with this id or, if there is none, with this name. Raises `WorkflowNotFoundError`."""
    try:
        return provider.get_workflow_instance(id_or_name)
    except WorkflowNotFoundError:
        return provider.get_workflow_instance_by_name(id_or_name)


@contextmanager
def reported_errors(url: str | None) -> Iterator[None]:
    """As `exit_codes`, and print what the library logs as an error."""
    log, log_handler = logging.getLogger("wfe_postgres"), _ErrorLogHandler(logging.ERROR)
    log.addHandler(log_handler)
    try:
        with exit_codes(url):
            yield
    finally:
        log.removeHandler(log_handler)


@contextmanager
def exit_codes(url: str | None) -> Iterator[None]:
    """Turn expected exceptions into a one-line message and an exit code."""
    try:
        yield
    except StoreNotReadyError as error:
        fail(str(error), ExitCode.NOT_READY)
    except CorruptRowError as error:
        fail(str(error), ExitCode.NO)
    except PersistenceError as error:
        fail(str(error).replace("cannot connect:", f"cannot connect{to_address(url)}:", 1), ExitCode.NO_DATABASE)
    except SerializationError as error:
        fail(str(error), ExitCode.USAGE)
    except WfeError as error:
        fail(str(error), ExitCode.NO)
    except EmbeddedPostgresError as error:
        fail(str(error), ExitCode.NO_DATABASE)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)


class _ErrorLogHandler(logging.Handler):
    """Prints the library's ERROR records, one line each; without a handler Python would also print retry warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def complain(message: str) -> None:
    """Print an error message in one line, on a terminal folded between words."""
    line = f"{_PROGRAM.get().name}: {in_one_line(message)}"
    if sys.stderr is not None and sys.stderr.isatty():
        show(make_console(stderr=True), Text(line))
    else:
        typer.echo(line, err=True)


def fail(message: str, code: ExitCode) -> NoReturn:
    """Print an error message in one line and exit."""
    complain(message)
    raise typer.Exit(code)


def concerns_all(error: PersistenceError) -> bool:
    """Whether the same error is to be expected for what comes next, or the outcome of this one is unknown."""
    return isinstance(error, StoreNotReadyError | OutcomeUnknownError) or error.retryable or error.sqlstate is None


def ask(question: str) -> None:
    """Ask on standard error, so that standard output can be redirected. Exits unless the answer is yes."""
    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = ""
    try:
        answer = sys.stdin.readline() if sys.stdin is not None else ""
    finally:
        if not answer.endswith("\n"):  # the end of the input, or Ctrl-C
            typer.echo(err=True)
    if answer.strip().lower() not in ("y", "yes"):
        fail("nothing was changed; --yes answers the question", ExitCode.NO)


def to_address(url: str | None) -> str:
    """The address in the URL without its password; empty if a second `@` makes the password ambiguous."""
    if not url or url.count("@") > 1:
        return ""
    parsed = parse_url(url)
    parsed = parsed.set(host=parsed.host or str(parsed.query.get("host", "")), password=None, query={})
    return f" to {parsed.render_as_string().partition('//')[2]}"
