"""Runs the demo: places and pays the orders, kills one worker, pauses another, and prints the events."""

import queue
import time
from collections import Counter
from collections.abc import Sequence

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.demo.ledger import Effects
from wfe_postgres.demo.orders import ORDER, PAYMENT, expected_effects, order_data
from wfe_postgres.demo.scenario import KILL, PARTS, PAUSE, Fault, NewOrder, Part
from wfe_postgres.demo.show import DEMO, Show
from wfe_postgres.demo.worker import Report
from wfe_postgres.demo.workers import Workers
from wfe_postgres.host import WorkflowHost
from wfe_postgres.services import PostgresQueueProvider

TIMEOUT = 10.0
"""Seconds until the demo stops waiting for the orders of a part."""

READING_TIME = 0.8
"""Seconds between the text of a part and its first event."""

OUTCOMES = {
    "done": "done",
    "branches": "fans out: one branch per line",
    "waits": "waits for the payment",
    "sleeps": "the next step is scheduled",
}
"""The text for a saved step, by outcome."""

CONTROLS = ("pick lines", "await courier")
"""The steps that run no code of the demo."""


class Narration:
    """Runs the demo with worker processes on a store, and prints what happens.

    Afterwards `orders` maps workflow ids to order names, `expected` contains the effects that must be recorded,
    `faults` what was done to workers, and `crashed` the workers that exited unexpectedly.
    """

    def __init__(self, provider: PostgresPersistenceProvider, workers: Workers, show: Show) -> None:
        self.orders: dict[str, str] = {}
        self.expected: Effects = Counter()
        self.faults: list[Fault] = []
        self.crashed: list[str] = []
        self._provider = provider
        self._host = WorkflowHost(
            provider, [ORDER], queue=PostgresQueueProvider.from_engine(provider.engine, schema=provider.schema)
        )
        self._workers = workers
        self._show = show
        self._inject = {KILL: self._kill, PAUSE: self._pause}
        self._open: dict[tuple[str, str], Fault] = {}
        self._killed: set[str] = set()
        self._paused: set[str] = set()
        self._unpaid: set[str] = set()

    def run(self, parts: Sequence[Part] = PARTS) -> None:
        """Place the orders of each part and handle the reports of the workers until these are done, or `TIMEOUT`."""
        for part in parts:
            self._show.heading(part.title, part.text)
            time.sleep(READING_TIME)
            for order in part.orders:
                self._place(order)
            deadline = time.monotonic() + TIMEOUT
            while time.monotonic() < deadline and not self._is_done():
                try:
                    self._handle(self._workers.reports.get(timeout=0.1))
                except queue.Empty:
                    continue

    def unfinished(self) -> list[str]:
        """The orders whose workflow is not Complete."""
        workflows = self._provider.get_workflow_instances(list(self.orders))
        return [self.orders[w.id] for w in workflows if w.status != WorkflowStatus.COMPLETE]

    def _is_done(self) -> bool:
        return self._workers.reports.empty() and not self._paused and not self.unfinished()

    def _place(self, order: NewOrder) -> None:
        name = f"order-{self._provider.next_definition_sequence(ORDER.id)}"
        if order.paid_in_advance:
            self._publish_payment(name)
        else:
            self._unpaid.add(name)
        data = order_data(name, list(order.lines), busy=order.busy)
        id = self._host.start_workflow(ORDER.id, data, name=name)
        self.orders[id] = name
        self.expected.update({(id, effect): count for effect, count in expected_effects(data).items()})
        what = "is paid and placed: " if order.paid_in_advance else "is placed: "
        self._show.event(DEMO, name, "", what + ", ".join(order.lines))

    def _publish_payment(self, name: str) -> None:
        self._host.publish_event(PAYMENT, name, {"from": "the demo"})

    def _handle(self, report: Report) -> None:
        match report.what:
            case "ready":
                pass
            case "exited":
                self._on_exit(report)
            case "starts":
                self._on_start(report)
            case "works":
                if inject := self._inject.pop(report.step, None):
                    inject(report)
            case "failed":
                self._print(report, f"failed: {report.note}; will retry", "red")
            case "refused":
                self._on_refused(report)
            case "waits" if report.order not in self._unpaid:
                pass  # the payment is there and is delivered next
            case "done" if report.step in CONTROLS:
                pass  # its beginning was printed
            case outcome:
                self._print(report, OUTCOMES[outcome])
                self._on_saved(report)

    def _print(self, report: Report, what: str, style: str = "") -> None:
        self._show.event(report.worker, report.order, report.step, what, style)

    def _on_exit(self, report: Report) -> None:
        self._print(report, "has exited")
        if report.worker not in self._killed:
            self.crashed.append(report.worker)

    def _on_start(self, report: Report) -> None:
        fault = self._open.get((report.order, report.step))
        if fault and fault.worker != report.worker:
            fault.successor = report.worker
            self._print(report, f"takes over from {fault.worker}", "bold green")

    def _on_refused(self, report: Report) -> None:
        self._paused.discard(report.worker)
        self._print(report, "its late save is refused", "bold yellow")
        for fault in self.faults:
            fault.refused |= (fault.worker, fault.order, fault.step) == (report.worker, report.order, report.step)

    def _on_saved(self, report: Report) -> None:
        fault = self._open.pop((report.order, report.step), None)
        if fault and fault.worker in self._paused:
            self._workers.resume(fault.worker)
            self._show.event(DEMO, report.order, report.step, f"resumes {fault.worker} (SIGCONT)", "bold")
        if fault and fault.worker == report.worker:  # the step was saved before the fault took effect
            self._paused.discard(report.worker)
        if report.what == "waits":
            self._publish_payment(report.order)
            self._show.event(DEMO, report.order, "", "is paid")

    def _kill(self, report: Report) -> None:
        self._workers.kill(report.worker)
        self._killed.add(report.worker)
        self._record_fault(report, "killed (SIGKILL)", f"kills {report.worker} (SIGKILL)")

    def _pause(self, report: Report) -> None:
        self._workers.pause(report.worker)
        self._paused.add(report.worker)
        self._record_fault(report, "paused (SIGSTOP)", f"pauses {report.worker} (SIGSTOP)")

    def _record_fault(self, report: Report, what: str, shown: str) -> None:
        fault = Fault(report.worker, what, report.order, report.step, report.note)
        self.faults.append(fault)
        self._open[report.order, report.step] = fault
        self._show.event(DEMO, report.order, report.step, shown, "bold red")
