"""The order workflow of the demo: a retry, a fan-out, a wait for an event, a delay.

Every step records its effect twice: in the workflow's data, and as a row of an application table, written in the
transaction that saves the step. `expected_effects` returns the effects that both must contain in the end.
"""

import time
from collections import Counter
from typing import Any

from wfe_postgres.demo.definitions import Branch, Context, Definition, Delay, Next, Outcome, WaitFor

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


def record_effect(context: Context, effect: str, seconds: float = PACE) -> None:
    """Record the effect in the workflow's data and, within the host's transaction, in the table; then work."""
    context.data["effects"].append(effect)
    context.resources(effect)
    time.sleep(seconds)


def reserve_stock(context: Context) -> Outcome:
    """Fails after recording its effect: data and row must both be rolled back before the retry."""
    record_effect(context, "stock reserved")
    if context.pointer.retry_count < context.data["busy"]:
        raise WarehouseBusyError("warehouse busy")
    return Next()


def pick_lines(context: Context) -> Outcome:
    """Fans out with one branch for each line of the order."""
    return Branch(pick_line, context.data["lines"])


def pick_line(context: Context) -> Outcome:
    """One branch of the fan-out; its item is one line of the order."""
    record_effect(context, f"{context.item} picked", FRAGILE.get(context.item, PACE))
    return Next()


def await_payment(context: Context) -> Outcome:
    """Waits for the event, which may have been published before the order was created."""
    if not context.pointer.event_published:
        return WaitFor(PAYMENT, context.data["order"])
    record_effect(context, "payment booked")
    context.data["paid"] = context.pointer.event_data
    return Next()


def book_courier(context: Context) -> Outcome:
    """Books the courier and continues after a delay."""
    record_effect(context, "courier booked")
    return Delay(0.3)


def ship(context: Context) -> Outcome:
    """Ships the order; the last step."""
    record_effect(context, "shipped")
    return Next()


ORDER = Definition(
    "order",
    1,
    steps=(reserve_stock, pick_lines, await_payment, book_courier, ship),
    branch_steps=(pick_line,),
)
