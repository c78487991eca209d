"""The order workflow of the demo: a retry, a fan-out, a wait for an event, a delay.

Every step leaves its effect twice: in the workflow's data, and as a row of the application's own table, written in
the transaction that saves the step. `expected_effects` says what must stand in both in the end.
"""

import time
from collections import Counter
from typing import Any

from wfe_postgres.demo.definitions import Branch, Context, Definition, Delay, Next, Outcome, WaitFor

PAYMENT = "payment"


class WarehouseBusyError(Exception):
    """What the first step of some orders meets, once or twice."""


FRAGILE = {"vase", "mirror"}
"""What takes long to pick: long enough to be struck in the middle of it."""


def order_data(name: str, lines: list[str], *, busy: int) -> dict[str, Any]:
    """The data of a new order; the warehouse is busy for its first `busy` tries."""
    return {"order": name, "lines": lines, "busy": busy, "effects": []}


def expected_effects(data: dict[str, Any]) -> Counter[str]:
    """What the steps of this order must have left behind, each exactly once."""
    picked = [f"{line} picked" for line in data["lines"]]
    return Counter(["stock reserved", *picked, "payment booked", "courier booked", "shipped"])


def leave_effect(context: Context, effect: str) -> None:
    """Note the effect in the workflow's data and, by the host's transaction, in the application's table."""
    context.data["effects"].append(effect)
    context.resources(effect)


def reserve_stock(context: Context) -> Outcome:
    """Fails after its effect was written: data and row must both be gone when it is tried again."""
    leave_effect(context, "stock reserved")
    if context.pointer.retry_count < context.data["busy"]:
        raise WarehouseBusyError("warehouse busy")
    return Next()


def pick_lines(context: Context) -> Outcome:
    """Fans out, one branch for each line of the order."""
    return Branch(pick_line, context.data["lines"])


def pick_line(context: Context) -> Outcome:
    """One branch of the fan-out, with one of the lines as its item."""
    leave_effect(context, f"{context.item} picked")
    time.sleep(0.8 if context.item in FRAGILE else 0.05)
    return Next()


def await_payment(context: Context) -> Outcome:
    """Waits for the event, which may have come before the order was even placed."""
    if not context.pointer.event_published:
        return WaitFor(PAYMENT, context.data["order"])
    leave_effect(context, "payment booked")
    context.data["paid"] = context.pointer.event_data
    return Next()


def book_courier(context: Context) -> Outcome:
    """The courier comes a little later."""
    leave_effect(context, "courier booked")
    return Delay(0.5)


def ship(context: Context) -> Outcome:
    """The last step."""
    leave_effect(context, "shipped")
    return Next()


ORDER = Definition(
    "order",
    1,
    steps=(reserve_stock, pick_lines, await_payment, book_courier, ship),
    branch_steps=(pick_line,),
)
