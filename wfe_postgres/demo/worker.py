"""One worker process of the demo: `python -m wfe_postgres.demo.worker`.

It reads its orders (a line of JSON) from standard input, so that no password stands in a list of processes, and
works until standard input ends, as it also does when the demo is killed. What it does, it tells on standard
output: a `Report` a line.
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
    """What a worker is told at its start."""

    name: str
    url: str
    schema: str
    lease: float


@dataclass(frozen=True)
class Report:
    """What a worker tells: who, what (`ready`, `starts`, `works`, `failed`, `refused`, or an ending), of which step."""

    worker: str
    what: str
    order: str = ""
    step: str = ""
    note: str = ""


ENDINGS = {
    PointerStatus.COMPLETE: "done",
    PointerStatus.RUNNING: "branches",
    PointerStatus.WAITING_FOR_EVENT: "waits",
    PointerStatus.SLEEPING: "sleeps",
}
"""What is told of a step that was saved, by the status that it gave its pointer."""


class ReportingHost(Host):
    """A host whose steps write into the ledger, in the transaction that saves them, and that tells what it does."""

    def __init__(
        self,
        provider: PostgresPersistenceProvider,
        ledger: Ledger,
        name: str,
        tell: Callable[[Report], None],
        *,
        lease: float,
    ) -> None:
        super().__init__(provider, [ORDER], lease=lease, retry_delay=0.2)
        self._postgres = provider
        self._ledger = ledger
        self._name = name
        self._tell = tell

    @contextmanager
    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> Iterator[tuple[PersistenceProvider, Callable[[str], None]]]:
        """One transaction for the step's rows and the save of its workflow."""
        report = partial(Report, self._name, order=workflow.name, step=title(pointer))
        self._tell(report("starts"))
        try:
            with Session(self._ledger.engine) as session, session.begin():

                def record(effect: str) -> None:
                    self._ledger.write(session, workflow.id, effect, self._name)
                    self._tell(report("works"))

                yield self._postgres.using(session), record
        except ConcurrencyError:
            self._tell(report("refused"))
            raise
        except Exception as error:
            self._tell(report("failed", note=str(error)))
            raise
        self._tell(report(ENDINGS[pointer.status]))


def title(pointer: ExecutionPointer) -> str:
    """What the step is called on the screen."""
    return " ".join([str(pointer.step_name).replace("_", " "), pointer.context_item or ""]).strip()


def main() -> None:
    """Work until standard input ends."""
    line = sys.stdin.readline()
    if not line:
        return
    assignment = Assignment(**json.loads(line))
    stop = threading.Event()
    threading.Thread(target=set_at_end_of_input, args=[stop], daemon=True).start()
    provider = PostgresPersistenceProvider(assignment.url, schema=assignment.schema)
    ledger = Ledger(provider.engine, assignment.schema)
    host = ReportingHost(provider, ledger, assignment.name, tell, lease=assignment.lease)
    tell(Report(assignment.name, "ready"))
    host.run(stop, interval=0.05)


def set_at_end_of_input(stop: threading.Event) -> None:
    """Tell the host to stop when the demo has closed our input, or is no more and cannot thaw whom it froze."""
    sys.stdin.read()
    os.killpg(0, signal.SIGCONT)
    stop.set()


def tell(report: Report) -> None:
    """Print the report for the demo to read; when it is no more, the end of the input ends us in order."""
    with suppress(BrokenPipeError):
        print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    main()
