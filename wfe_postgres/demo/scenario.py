"""What happens in the demo: three parts, and the faults in two of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NewOrder:
    """An order: its lines, how often its first step fails, and whether it is paid before it is placed."""

    lines: tuple[str, ...]
    busy: int = 0
    paid_in_advance: bool = True


@dataclass(frozen=True)
class Part:
    """A part of the demo: its title, the sentences below the title, and its orders."""

    title: str
    text: tuple[str, ...]
    orders: tuple[NewOrder, ...]


KILL, PAUSE = "pick line vase", "pick line mirror"
"""The worker that runs the first step is killed; the one that runs the second is paused until another has done it."""

PARTS = (
    Part(
        "1. Two orders",
        ("A step fails and is retried, each line of an order is a branch, and one order", "waits for its payment."),
        (NewOrder(("apples", "pears"), busy=1, paid_in_advance=False), NewOrder(("bread",))),
    ),
    Part(
        "2. A worker is killed",
        ("kill -9 ends the worker that picks the vase. When its lease expires, another", "worker repeats the step."),
        (NewOrder(("vase",)),),
    ),
    Part(
        "3. A worker is paused",
        ("The worker that picks the mirror is stopped until another has done the step.", "Its late save is refused."),
        (NewOrder(("mirror",)),),
    ),
)


@dataclass
class Fault:
    """What was done to a worker in the middle of a step, and what became of the step."""

    worker: str
    what: str
    order: str
    step: str
    effect: str
    successor: str = ""
    """The worker that took the step over; empty if nobody had to, because the step was saved in that moment."""

    refused: bool = False
    """Whether the late save of the worker was refused."""
