"""One worker process of the demo: `python -m wfe_postgres.demo.worker`.

It reads its assignment (one line of JSON) from standard input, so that no password appears in the process list, and
works until standard input is closed, which also happens when the demo is killed. It prints one `Report` per line on
standard output.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy.orm import Session

from wfe_postgres import (
    ConcurrencyError,
    ExecutionPointer,
    PersistenceProvider,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowInstance,
)
from wfe_postgres.demo.host import Host
from wfe_postgres.demo.ledger import Ledger
from wfe_postgres.demo.orders import ORDER


@dataclass(frozen=True)
class Assignment:
    """The parameters of a worker."""

    name: str
    url: str
    schema: str
    lease: float


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


class ReportingHost(Host):
    """A host whose steps write to the ledger in the transaction that saves them, and that reports what it does."""

    def __init__(
        self,
        provider: PostgresPersistenceProvider,
        ledger: Ledger,
        name: str,
        send: Callable[[Report], None],
        *,
        lease: float,
    ) -> None:
        super().__init__(provider, [ORDER], lease=lease, retry_delay=0.2)
        self._postgres = provider
        self._ledger = ledger
        self._name = name
        self._send = send

    @contextmanager
    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> Iterator[tuple[PersistenceProvider, Callable[[str], None]]]:
        """One transaction for the rows of the step and the save of its workflow."""
        report = partial(Report, self._name, order=workflow.name, step=title(pointer))
        self._send(report("starts"))
        try:
            with Session(self._ledger.engine) as session, session.begin():

                def record(effect: str) -> None:
                    self._ledger.write(session, workflow.id, effect, self._name)
                    self._send(report("works", note=effect))

                yield self._postgres.using(session), record
        except ConcurrencyError:
            self._send(report("refused"))
            raise
        except Exception as error:
            self._send(report("failed", note=str(error)))
            raise
        self._send(report(OUTCOMES[pointer.status]))


def title(pointer: ExecutionPointer) -> str:
    """The step's name in the output."""
    return " ".join([str(pointer.step_name).replace("_", " "), pointer.context_item or ""]).strip()


def main() -> None:
    """Work until standard input is closed."""
    line = sys.stdin.readline()
    if not line:
        return
    assignment = Assignment(**json.loads(line))
    stop = threading.Event()
    threading.Thread(target=stop_at_end_of_input, args=[stop], daemon=True).start()
    provider = PostgresPersistenceProvider(assignment.url, schema=assignment.schema)
    ledger = Ledger(provider.engine, assignment.schema)
    host = ReportingHost(provider, ledger, assignment.name, send, lease=assignment.lease)
    send(Report(assignment.name, "ready"))
    host.run(stop, interval=0.05)


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
