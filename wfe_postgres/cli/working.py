"""`work`: runs the workflows of an application's host, in this process or in several."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.cli.application import load_host
from wfe_postgres.cli.provider import exit_codes, naming_the_upgrade
from wfe_postgres.cli.supervising import Supervisor
from wfe_postgres.cli.text import counted, plain
from wfe_postgres.host import WorkflowHost
from wfe_postgres.host.outage import Outage
from wfe_postgres.schema import HEAD, current_revision
from wfe_postgres.schema.revisions import describe_revision, read_in_transaction

LOG = logging.getLogger("wfe_postgres.work")


Target = Annotated[
    str, typer.Argument(metavar="MODULE:HOST", show_default=False, help="A module, and the name of a host in it.")
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", metavar="N", min=1, show_default=False, help="Run N processes, and replace them."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, show_default=False, help="Threads of each process."),
]
StopTimeout = Annotated[
    float | None,
    typer.Option("--stop-timeout", metavar="SECONDS", min=0, show_default=False, help="Stop without waiting longer."),
]
OfSupervisor = Annotated[int | None, typer.Option("--supervisor", hidden=True)]


def work(
    context: typer.Context,
    target: Target,
    processes: Processes = None,
    threads: Threads = None,
    stop_timeout: StopTimeout = None,
    supervisor: OfSupervisor = None,
) -> None:
    """Run the workflows of an application.

    Imports MODULE, from the current directory or what is installed. HOST is a WorkflowHost there, or a callable
    without arguments that returns one. The database is the host's own; --url and --schema are not used.

    SIGTERM and SIGINT stop the command: it takes no new work, waits until the running steps have ended and been
    saved, and exits with 0. A second signal ends it at once.

    With --processes, N processes import the module and run the host. One that ends is replaced.

    Logs to standard error, unless the application has configured logging.

    \b
    Example:
      wfe-postgres work shop.workflows:host
    \b
    Exit codes:
      0    stopped by a signal
      2    there is no such host, it has no definitions,
           or its module cannot be imported;
           the store is missing, or at another schema
           revision; the clock differs from the server's
      3    the database refused the call
      130  ended by a second Ctrl-C (143: SIGTERM)
    """
    if context.parent is not None and (context.parent.params.get("url") or context.parent.params.get("schema")):
        raise typer.BadParameter("not for `work`: the database is that of the host", param_hint="--url, --schema")
    work_for(lambda: load_host(target), processes, threads, stop_timeout, supervisor)


def work_for(
    find_host: Callable[[], WorkflowHost],
    processes: int | None = None,
    threads: int | None = None,
    stop_timeout: float | None = None,
    supervisor: int | None = None,
) -> None:
    """Run the host in this process or, for `processes`, run this process's own command so many times.

    `supervisor`: the file descriptor that the command is given in `--supervisor` then. Raises `typer.Exit`.
    """
    if processes is not None and supervisor is None:
        configure_logging()
        raise typer.Exit(Supervisor([sys.executable, *sys.orig_argv[1:]], processes).run())
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the first process of a container has none
    with exit_codes(None):
        host = find_host()
        if threads is not None:
            host.threads = threads
    configure_logging()
    with exit_codes(url_of(host.provider)):
        require_store(host.provider)
        run(host, stop_timeout, None if supervisor is None else socket.socket(fileno=supervisor))


def configure_logging() -> None:
    """Log to standard error, with times in UTC; not if the application has configured logging."""
    if logging.getLogger("wfe_postgres.host").hasHandlers():
        return
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def url_of(provider: PersistenceProvider) -> str | None:
    """The URL of the provider's database, without its password."""
    return str(provider.engine.url) if isinstance(provider, PostgresPersistenceProvider) else None


def require_store(provider: PersistenceProvider) -> None:
    """Wait until the database is available. Raises `StoreNotReadyError` if the store is not at this revision."""
    if not isinstance(provider, PostgresPersistenceProvider):
        return
    engine, schema = provider.engine, provider.schema
    found = Outage(threading.Event()).outlast(
        lambda: read_in_transaction(engine, lambda it: current_revision(it, schema))
    )
    if found != HEAD:
        raise StoreNotReadyError(naming_the_upgrade(describe_revision(found, schema), schema))


def run(host: WorkflowHost, stop_timeout: float | None, channel: socket.socket | None) -> None:
    """Run the host until a signal, or until the supervisor at the other end of the channel has ended."""
    if channel is not None:
        channel.set_inheritable(False)
        channel.send(b"+")  # ready
    known = ", ".join(plain(f"{id} v{version}") for id, version in sorted(host.definitions))
    LOG.info("process %d starts with %s: %s", os.getpid(), counted(host.threads, "thread"), known)
    if channel is None:
        host.run(stop_timeout)
    else:
        run_supervised(host, stop_timeout, channel)
    LOG.info("process %d has stopped", os.getpid())


def run_supervised(host: WorkflowHost, stop_timeout: float | None, channel: socket.socket) -> None:
    """As `run`. The host is stopped once by any number of signals: systemd sends one to each process, too."""
    reasons: list[str] = []

    def watch() -> None:
        with suppress(OSError):
            channel.recv(1)
        reasons.append("the supervisor has ended")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: reasons.append(signal.Signals(number).name))
    threading.Thread(target=watch, name="wfe-supervisor", daemon=True).start()

    def is_over() -> bool:
        if reasons:
            LOG.info("stopping: %s", reasons[0])
        return bool(reasons)

    host.run_until(is_over, stop_timeout)
