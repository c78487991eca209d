"""One worker process of the demo: `python -m wfe_postgres.demo.worker`.

It reads its assignment (one line of JSON) from standard input, so that no password appears in the process list, and
works until standard input is closed, which also happens when the demo is killed. It prints one `Report` per line on
standard output.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session, sessionmaker

from wfe_postgres import (
    ConcurrencyError,
    ExecutionPointer,
    PersistenceProvider,
    PointerStatus,
    PostgresPersistenceProvider,
)
from wfe_postgres.demo.ledger import Ledger
from wfe_postgres.demo.orders import ORDER
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowHost
from wfe_postgres.services import PostgresQueueProvider


@dataclass(frozen=True)
class Assignment:
    """The parameters of a worker."""

    name: str
    url: str
    schema: str
    lease: float
    poll_interval: float = 0.25
    """For leases that end, and for delays; what is started or paid is notified."""


@dataclass(frozen=True)
class Report:
    """A report of a worker: `what` is `ready`, `starts`, `works`, `failed`, `refused` or a value of `OUTCOMES`.

    `note` is the effect that was recorded (`works`) or the text of the error (`failed`).
    """

    worker: str
    what: str
    order: str = ""
    step: str = ""
    note: str = ""


OUTCOMES = {
    PointerStatus.COMPLETE: "done",
    PointerStatus.RUNNING: "branches",
    PointerStatus.WAITING_FOR_EVENT: "waits",
    PointerStatus.SLEEPING: "sleeps",
}
"""The report for a saved step, by the status of its pointer."""


class Reporter:
    """Lets the steps of a host write to the ledger, in the transaction that saves them, and reports what they do.

    The host has one thread.
    """

    def __init__(
        self, provider: PostgresPersistenceProvider, ledger: Ledger, name: str, send: Callable[[Report], None]
    ) -> None:
        self._transactions = provider.step_transactions(sessionmaker(provider.engine, info={"record": self._record}))
        self._ledger = ledger
        self._name = name
        self._send = send
        self._context: StepContext

    @contextmanager
    def transaction(self) -> Iterator[tuple[PersistenceProvider, Session]]:
        """One transaction for the rows of a step and the save of its workflow."""
        try:
            with self._transactions() as (provider, session):
                yield provider, session
        except ConcurrencyError:
            self._report("refused")
            raise
        self._report(OUTCOMES[self._context.pointer.status])

    def around(
        self, context: StepContext, call_next: Callable[[StepContext], ExecutionResult | None]
    ) -> ExecutionResult | None:
        """Middleware of the host."""
        self._context = context
        self._report("starts")
        try:
            return call_next(context)
        except Exception as error:
            self._report("failed", str(error))
            raise

    def _record(self, session: Session, effect: str) -> None:
        self._ledger.write(session, self._context.workflow.id, effect, self._name)
        self._report("works", effect)

    def _report(self, what: str, note: str = "") -> None:
        workflow, pointer = self._context.workflow, self._context.pointer
        self._send(Report(self._name, what, workflow.name, title(pointer), note))


TITLES = {"ForEach": "pick lines", "WaitFor": "await payment", "Delay": "await courier"}


def title(pointer: ExecutionPointer) -> str:
    """The step's name in the output."""
    name = str(pointer.step_name)
    return " ".join([TITLES.get(name, name.replace("_", " ")), pointer.context_item or ""]).strip()


def main() -> None:
    """Work until standard input is closed."""
    line = sys.stdin.readline()
    if not line:
        return
    assignment = Assignment(**json.loads(line))
    logging.getLogger("wfe_postgres.host").addHandler(logging.NullHandler())  # the demo prints the reports
    stop = threading.Event()
    threading.Thread(target=stop_at_end_of_input, args=[stop], daemon=True).start()
    provider = PostgresPersistenceProvider(assignment.url, schema=assignment.schema)
    ledger = Ledger(provider.engine, assignment.schema)
    reporter = Reporter(provider, ledger, assignment.name, send)
    host = WorkflowHost(
        provider,
        [ORDER],
        transaction=reporter.transaction,
        queue=PostgresQueueProvider.from_engine(provider.engine, schema=assignment.schema),
        middleware=[reporter.around],
        threads=1,
        lease=assignment.lease,
        poll_interval=assignment.poll_interval,
    )
    send(Report(assignment.name, "ready"))
    with host:
        stop.wait()


def stop_at_end_of_input(stop: threading.Event) -> None:
    """Stop the host when standard input is closed, and resume paused workers, since the demo may have been killed."""
    sys.stdin.read()
    os.killpg(0, signal.SIGCONT)
    stop.set()


def send(report: Report) -> None:
    """Print the report for the demo. If the demo was killed, the worker stops when its input ends."""
    with suppress(BrokenPipeError):
        print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    main()
