"""How much is measured: sizes, counts and seconds of the full form and of the quick one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The size of a run. Times are in seconds, of the wall clock."""

    name: str
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 3000)
    """Pointers of the workflows that are saved and loaded."""
    race: float = 6.0
    """How long one race lasts, unless its slowest way needs longer for `fewest` rounds."""
    fewest: int = 3
    """How often even the slowest way is timed."""
    slow_behind_delay: int = 3000
    """Up to how many round trips the ways that need one for each pointer or error are timed behind the proxy, too."""
    growth: tuple[int, int] = (10, 1000)
    """The pointers of the two workflows whose saves are held against each other."""
    crowd: int = 200_000
    """Workflows of the crowded store; a tenth of them is suspended, six tenths are complete."""
    pointers_in_crowd: int = 5
    """Pointers of each of them."""
    purged: int = 100_000
    """How many of the complete ones are old enough to be purged."""
    listed: int = 100
    """Ids of one `get_workflow_instances`."""
    errors: int = 1000
    """Errors of one `persist_errors`."""
    steps: int = 20
    """Steps of the durable workflow."""
    threads: int = 8
    slice: float = 1.0
    """How long the threads work on one side before it is the other's turn."""
    slices: int = 5
    remembered: int = 3000
    """Pointers of the workflow whose memory is measured."""
    imports: int = 15
    """How often each import is timed."""


FULL = Plan("full")
QUICK = Plan(
    "quick",
    sizes=(1, 10, 1000),
    race=0.3,
    fewest=2,
    slow_behind_delay=10,
    crowd=20_000,
    purged=10_000,
    slice=0.3,
    slices=2,
    remembered=300,
    imports=1,
)
