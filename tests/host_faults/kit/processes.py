"""Hosts in processes of their own, which can be killed, frozen and stopped, and whose log can be read."""

import json
import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import sessionmaker

from tests.host_faults.kit import effects
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import WorkflowDefinition, WorkflowHost
from wfe_postgres.services import PostgresLockProvider

MODULES = ["pytest", "tests.conftest", "tests.host_faults.kit.processes"]
QUICK: dict[str, Any] = {"poll_interval": 0.05, "lease": 1.0}


@dataclass(frozen=True)
class Setup:
    """What a process needs to build its host."""

    url: str
    effects_url: str
    log: Path
    definitions: tuple[Callable[[], WorkflowDefinition], ...]
    transactional: bool
    locks: dict[str, Any] | None
    """The parameters of a `PostgresLockProvider` of the host's, or none."""
    provider_options: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One record of a host's log."""

    level: str
    name: str
    message: str
    traceback: str = field(default="", repr=False)


class LogFile(logging.FileHandler):
    """Writes a record as a line of JSON, at once."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Handler`."""
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        return json.dumps([record.levelname, record.name, record.getMessage(), trace])


def work(setup: Setup) -> None:
    """Run a host until a signal ends it."""
    logger = logging.getLogger("wfe_postgres")
    logger.addHandler(LogFile(setup.log))
    logger.setLevel(logging.INFO)
    effects.connect(setup.effects_url)
    with PostgresPersistenceProvider(setup.url, **setup.provider_options) as provider:
        transaction = provider.step_transactions(sessionmaker(provider.engine)) if setup.transactional else None
        definitions = [definition() for definition in setup.definitions]
        lock = None if setup.locks is None else PostgresLockProvider(**{"url": setup.url, **setup.locks})
        WorkflowHost(provider, definitions, transaction=transaction, lock=lock, **{**QUICK, **setup.options}).run()


class HostProcess:
    """A process that runs a host."""

    def __init__(self, setup: Setup) -> None:
        # Started from a process without threads and without the sockets of the test.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(MODULES)
        self._log = setup.log
        self._process = context.Process(target=work, args=(setup,), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, or is frozen."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        self._process.kill()
        self._process.join()

    def freeze(self) -> None:
        """Send SIGSTOP: the process stands still."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: it goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self, signal_number: int = signal.SIGTERM) -> None:
        """Send SIGTERM, or another signal, and do not wait."""
        os.kill(self.pid, signal_number)

    def wait(self, timeout: float = effects.TIMEOUT) -> int | None:
        """Wait until the process has ended, and return its exit code; `None`: it has not within the timeout."""
        self._process.join(timeout)
        return self._process.exitcode

    def log(self, *levels: str) -> list[Line]:
        """Return the log of the host, of these levels only."""
        lines = [Line(*json.loads(line)) for line in self._log.read_text().splitlines()] if self._log.exists() else []
        return [line for line in lines if not levels or line.level in levels]
