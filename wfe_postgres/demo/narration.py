"""The course of the demo: places the orders and pays them, strikes two workers, and tells what happens."""

import queue
import time
from collections import Counter

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.demo.host import Host
from wfe_postgres.demo.ledger import Effects
from wfe_postgres.demo.orders import ORDER, PAYMENT, expected_effects, order_data
from wfe_postgres.demo.show import DEMO, Show
from wfe_postgres.demo.worker import Report
from wfe_postgres.demo.workers import Crew

TIMEOUT = 12.0
"""Seconds until the demo gives up on its orders."""

KILL, FREEZE = "pick line vase", "pick line mirror"
"""Who runs the first is killed in the middle of it; who runs the second is frozen until another has done it."""

ORDERS: list[tuple[list[str], int]] = [
    (["apples", "pears"], 2),
    (["vase", "roses", "candles"], 0),
    (["bread"], 1),
    (["mirror", "comb"], 0),
    (["tea", "cups", "sugar", "milk"], 0),
]
"""The lines of each order, and how often the warehouse is busy when it comes."""

PAID_IN_ADVANCE = {"order-1", "order-3"}
"""Their payments come before they do."""

ENDINGS = {
    "done": "done",
    "branches": "fans out: one branch a line",
    "waits": "waits for the payment",
    "sleeps": "done; alarm set for the next step",
}
"""What is said of a step that was saved."""


class Story:
    """Plays the demo with a crew on a store.

    Afterwards `orders` has the name of each order by the id of its workflow, `expected` what must have been
    recorded for them, `counts` how often a step was begun (`starts`), `failed` or was `refused`, `killed` who was,
    and `crashed` who ended by itself.
    """

    def __init__(self, provider: PostgresPersistenceProvider, crew: Crew, show: Show) -> None:
        self.orders: dict[str, str] = {}
        self.expected: Effects = Counter()
        self.counts: Counter[str] = Counter()
        self.killed: set[str] = set()
        self.crashed: list[str] = []
        self._provider = provider
        self._host = Host(provider, [ORDER])
        self._crew = crew
        self._show = show
        self._strikes = {KILL: self._kill, FREEZE: self._freeze}
        self._abandoned: dict[tuple[str, str], str] = {}
        self._frozen: set[str] = set()

    def play(self) -> None:
        """Place the orders and follow the crew until all are done, or for `TIMEOUT` seconds."""
        for lines, busy in ORDERS:
            self._place(lines, busy)
        give_up = time.monotonic() + TIMEOUT
        while time.monotonic() < give_up and not self._is_over():
            try:
                self._hear(self._crew.reports.get(timeout=0.1))
            except queue.Empty:
                continue

    def unfinished(self) -> list[str]:
        """The orders that are not Complete in the store."""
        workflows = self._provider.get_workflow_instances(list(self.orders))
        return [self.orders[w.id] for w in workflows if w.status != WorkflowStatus.COMPLETE]

    def _is_over(self) -> bool:
        return self._crew.reports.empty() and not self._frozen and not self.unfinished()

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

    def _hear(self, report: Report) -> None:
        self.counts[report.what] += 1
        match report.what:
            case "ready":
                self._tell(report, "is ready")
            case "gone":
                self._on_gone(report)
            case "starts":
                self._on_start(report)
            case "works":
                if strike := self._strikes.pop(report.step, None):
                    strike(report)
            case "failed":
                self._tell(report, f"failed: {report.note}; will retry", "red")
            case "refused":
                self._frozen.discard(report.worker)
                self._tell(report, "refused: too late; rolled back", "yellow")
            case ending:
                self._tell(report, ENDINGS[ending])
                self._on_saved(report)

    def _tell(self, report: Report, what: str, style: str = "") -> None:
        self._show.event(report.worker, report.order, report.step, what, style)

    def _on_gone(self, report: Report) -> None:
        self._tell(report, "is gone")
        if report.worker not in self.killed:
            self.crashed.append(report.worker)

    def _on_start(self, report: Report) -> None:
        left_by = self._abandoned.get((report.order, report.step), report.worker)
        if left_by != report.worker:
            self._tell(report, f"taken over from {left_by}", "green")

    def _on_saved(self, report: Report) -> None:
        left_by = self._abandoned.pop((report.order, report.step), None)
        if left_by in self._frozen:
            self._crew.thaw(left_by)
            self._show.event(DEMO, report.order, report.step, f"thaws {left_by}", "bold")
        if left_by == report.worker:  # it was saved before the blow fell
            self._frozen.discard(report.worker)
        if report.what == "waits" and report.order not in PAID_IN_ADVANCE:
            self._pay(report.order, "is paid")

    def _kill(self, report: Report) -> None:
        self._crew.kill(report.worker)
        self.killed.add(report.worker)
        self._strike(report, f"kills {report.worker} with -9")

    def _freeze(self, report: Report) -> None:
        self._crew.freeze(report.worker)
        self._frozen.add(report.worker)
        self._strike(report, f"freezes {report.worker}")

    def _strike(self, report: Report, what: str) -> None:
        self._abandoned[report.order, report.step] = report.worker
        self._show.event(DEMO, report.order, report.step, what, "bold red")
