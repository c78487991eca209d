"""Holders of locks in processes of their own, which can be killed and frozen."""

import logging
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any

from wfe_postgres.services import PostgresLockProvider

TIMEOUT = 60.0


class _Warnings(logging.Handler):
    """Keeps the texts of what is logged at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.texts.append(record.getMessage())


def serve(url: str, lease: float, options: dict[str, Any], pipe: "Connection[Any, Any]") -> None:
    """Call the methods of a provider as the test asks for them."""
    warnings, lost = _Warnings(), list[str]()
    logging.getLogger("wfe_postgres").addHandler(warnings)
    locks = PostgresLockProvider(url, lease=lease, on_lost=lost.append, **options)
    while True:
        name, *arguments = pipe.recv()
        if name == "lost":
            pipe.send(list(lost))
        elif name == "warnings":
            pipe.send(list(warnings.texts))
        else:
            try:
                pipe.send(getattr(locks, name)(*arguments))
            except Exception as error:
                pipe.send(error)


class Holder:
    """A process with a provider of locks."""

    def __init__(self, url: str, lease: float, *, spawn: bool = False, **options: Any) -> None:
        # Spawned, it has the environment of the test, with which libfaketime is preloaded.
        context: Any = multiprocessing.get_context("spawn" if spawn else "forkserver")
        if not spawn:
            context.set_forkserver_preload(["pytest", "tests.services.kit.holders"])
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=serve, args=(url, lease, options, far_end), daemon=True)
        self._process.start()
        far_end.close()

    def __call__(self, name: str, *arguments: object) -> Any:
        """Call the method in the process. What it raises there is raised here."""
        self.ask(name, *arguments)
        return self.answer()

    def ask(self, name: str, *arguments: object) -> None:
        """Call the method, and do not wait."""
        self._pipe.send((name, *arguments))

    def answer(self) -> Any:
        """The answer to the last call."""
        assert self._pipe.poll(TIMEOUT), "the process does not answer"
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        self._process.kill()
        self._process.join()

    def freeze(self) -> None:
        """Send SIGSTOP: the process stands still."""
        os.kill(self._process.pid or 0, signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: it goes on."""
        os.kill(self._process.pid or 0, signal.SIGCONT)
