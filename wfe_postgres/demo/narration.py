"""Runs the demo: places and pays the orders, kills one worker, pauses another, and prints the events."""

import queue
import time
from collections import Counter

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.demo.host import Host
from wfe_postgres.demo.ledger import Effects
from wfe_postgres.demo.orders import ORDER, PAYMENT, expected_effects, order_data
from wfe_postgres.demo.show import DEMO, Show
from wfe_postgres.demo.worker import Report
from wfe_postgres.demo.workers import Workers

TIMEOUT = 12.0
"""Seconds until the demo stops waiting for its orders."""

KILL, PAUSE = "pick line vase", "pick line mirror"
"""The worker that runs the first step is killed; the one that runs the second is paused until another has done it."""

ORDERS: list[tuple[list[str], int]] = [
    (["apples", "pears"], 2),
    (["vase", "roses", "candles"], 0),
    (["bread"], 1),
    (["mirror", "comb"], 0),
    (["tea", "cups", "sugar", "milk"], 0),
]
"""The lines of each order, and the number of attempts that fail because the warehouse is busy."""

PAID_IN_ADVANCE = {"order-1", "order-3"}
"""Orders whose payment event is published before they are created."""

OUTCOMES = {
    "done": "done",
    "branches": "fans out: one branch per line",
    "waits": "waits for the payment",
    "sleeps": "done; alarm set for the next step",
}
"""The text for a saved step, by outcome."""


class Narration:
    """Runs the demo with worker processes on a store, and prints what happens.

    Afterwards `orders` maps workflow ids to order names, `expected` contains the effects that must be recorded,
    `counts` the number of steps that were started (`starts`), `failed` or `refused`, `killed` the workers that were
    killed, and `crashed` those that exited unexpectedly.
    """

    def __init__(self, provider: PostgresPersistenceProvider, workers: Workers, show: Show) -> None:
        self.orders: dict[str, str] = {}
        self.expected: Effects = Counter()
        self.counts: Counter[str] = Counter()
        self.killed: set[str] = set()
        self.crashed: list[str] = []
        self._provider = provider
        self._host = Host(provider, [ORDER])
        self._workers = workers
        self._show = show
        self._faults = {KILL: self._kill, PAUSE: self._pause}
        self._abandoned: dict[tuple[str, str], str] = {}
        self._paused: set[str] = set()

    def run(self) -> None:
        """Place the orders and handle the reports of the workers until all orders are done, or until `TIMEOUT`."""
        for lines, busy in ORDERS:
            self._place(lines, busy)
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

    def _place(self, lines: list[str], busy: int) -> None:
        name = f"order-{self._provider.next_definition_sequence(ORDER.id)}"
        if name in PAID_IN_ADVANCE:
            self._pay(name, "is paid in advance")
        data = order_data(name, lines, busy=busy)
        id = self._host.start(ORDER, data, name=name)
        self.orders[id] = name
        self.expected.update({(id, effect): count for effect, count in expected_effects(data).items()})
        self._show.event(DEMO, name, "", "is placed: " + ", ".join(lines))

    def _pay(self, name: str, what: str) -> None:
        self._host.publish(PAYMENT, name, {"from": "the demo"})
        self._show.event(DEMO, name, "", what)

    def _handle(self, report: Report) -> None:
        self.counts[report.what] += 1
        match report.what:
            case "ready":
                self._print(report, "is ready")
            case "exited":
                self._on_exit(report)
            case "starts":
                self._on_start(report)
            case "works":
                if inject := self._faults.pop(report.step, None):
                    inject(report)
            case "failed":
                self._print(report, f"failed: {report.note}; will retry", "red")
            case "refused":
                self._paused.discard(report.worker)
                self._print(report, "lease expired: save rolled back", "yellow")
            case outcome:
                self._print(report, OUTCOMES[outcome])
                self._on_saved(report)

    def _print(self, report: Report, what: str, style: str = "") -> None:
        self._show.event(report.worker, report.order, report.step, what, style)

    def _on_exit(self, report: Report) -> None:
        self._print(report, "has exited")
        if report.worker not in self.killed:
            self.crashed.append(report.worker)

    def _on_start(self, report: Report) -> None:
        previous = self._abandoned.get((report.order, report.step), report.worker)
        if previous != report.worker:
            self._print(report, f"taken over from {previous}", "green")

    def _on_saved(self, report: Report) -> None:
        previous = self._abandoned.pop((report.order, report.step), None)
        if previous in self._paused:
            self._workers.resume(previous)
            self._show.event(DEMO, report.order, report.step, f"resumes {previous}", "bold")
        if previous == report.worker:  # the step was saved before the fault took effect
            self._paused.discard(report.worker)
        if report.what == "waits" and report.order not in PAID_IN_ADVANCE:
            self._pay(report.order, "is paid")

    def _kill(self, report: Report) -> None:
        self._workers.kill(report.worker)
        self.killed.add(report.worker)
        self._record_fault(report, f"kills {report.worker} (SIGKILL)")

    def _pause(self, report: Report) -> None:
        self._workers.pause(report.worker)
        self._paused.add(report.worker)
        self._record_fault(report, f"pauses {report.worker}")

    def _record_fault(self, report: Report, what: str) -> None:
        self._abandoned[report.order, report.step] = report.worker
        self._show.event(DEMO, report.order, report.step, what, "bold red")
