"""The order workflow of the demo: a retry, a branch for each line, a wait for an event, a delay.

Every step records its effect twice: in the workflow's data, and as a row of an application table, written in the
transaction that saves the step. `expected_effects` returns the effects that both must contain in the end.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from wfe_postgres import Event
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder

PAYMENT = "payment"


class WarehouseBusyError(Exception):
    """Raised by the first attempts of the first step of some orders."""


PACE = 0.2
"""Seconds that a step takes, so that a person can follow."""

FRAGILE = {"vase": 0.8, "mirror": 0.8}
"""Items that take longer to pick, so that the worker can be killed or paused during the step."""


def order_data(name: str, lines: list[str], *, busy: int) -> dict[str, Any]:
    """The data of a new order; the warehouse is busy for the first `busy` attempts."""
    return {"order": name, "lines": lines, "busy": busy, "effects": []}


def expected_effects(data: dict[str, Any]) -> Counter[str]:
    """The effects that the steps of this order must record, each exactly once."""
    picked = [f"{line} picked" for line in data["lines"]]
    return Counter(["stock reserved", *picked, "payment booked", "courier booked", "shipped"])


def record_effect(context: StepContext, effect: str, seconds: float = PACE) -> None:
    """Record the effect in the workflow's data and, in the step's transaction, in the table; then work."""
    context.data["effects"].append(effect)
    context.session.info["record"](context.session, effect)
    time.sleep(seconds)


def reserve_stock(context: StepContext) -> None:
    """Fails after recording its effect: data and row must both be rolled back before the retry."""
    record_effect(context, "stock reserved")
    if context.attempt <= context.data["busy"]:
        raise WarehouseBusyError("warehouse busy")


def pick_line(context: StepContext) -> None:
    """Picks one line of the order."""
    record_effect(context, f"{context.item} picked", FRAGILE.get(context.item, PACE))


def book_payment(context: StepContext, payment: Event) -> None:
    """Takes the event, which may have been published before the order was created."""
    record_effect(context, "payment booked")
    context.data["paid"] = payment.event_data


def book_courier(context: StepContext) -> None:
    """Books the courier, who needs a while."""
    record_effect(context, "courier booked")


def ship(context: StepContext) -> None:
    """Ships the order; the last step."""
    record_effect(context, "shipped")


ORDER = (
    WorkflowBuilder("order", on_error=Retry(interval=0.2, max_retries=5))
    .start_with(reserve_stock)
    .for_each(lambda context: context.data["lines"], lambda line: line.start_with(pick_line))
    .wait_for(
        PAYMENT,
        key=lambda context: context.data["order"],
        as_of=datetime(1970, 1, 1, tzinfo=UTC),
        into=book_payment,
    )
    .then(book_courier)
    .delay(0.3)
    .then(ship)
    .build()
)
