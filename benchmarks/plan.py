"""Sizes, counts and durations of the full and the quick run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The size of a run. Durations are in seconds."""

    name: str
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 3000)
    """Numbers of pointers of the workflows that are saved and loaded."""
    race: float = 6.0
    """The duration of a race, unless the slowest implementation needs longer for `min_calls` calls."""
    min_calls: int = 3
    """The minimum number of calls of each implementation."""
    turn: int = 200
    """The number of consecutive calls of an implementation in a tight loop."""
    slow_behind_delay: int = 1000
    """Maximum round trips per call up to which slow implementations are also timed through the proxy."""
    growth: tuple[int, int] = (10, 1000)
    """Numbers of pointers of the two workflows whose saves are compared."""
    crowd: int = 200_000
    """Workflows in the filled store; one tenth of them is suspended, six tenths are complete."""
    pointers_in_crowd: int = 5
    """Pointers of each workflow in the filled store."""
    purged: int = 100_000
    """The number of complete workflows that are old enough to be purged."""
    listed: int = 100
    """The number of ids in a call of `get_workflow_instances`."""
    errors: int = 1000
    """The number of errors in a call of `persist_errors`."""
    steps: int = 20
    """The number of steps of the durable workflow."""
    waiting: int = 1000
    """The number of workflows that wait for events; a poll is also timed with a hundred times as many."""
    writers: tuple[int, ...] = (1, 16, 64)
    """Numbers of connections that commit at the same time, with and without NOTIFY."""
    workflows: int = 16
    """The number of workflows that hosts run at the same time."""
    threads: int = 8
    processes: int = 4
    slice: float = 1.0
    """The duration of one turn of the threads with one implementation."""
    slices: int = 5
    pauses: float = 180.0
    """The duration of the calls whose longest pauses are measured, for each implementation."""
    rate: int = 2000
    """The number of these calls per second, by all threads together."""
    remembered: int = 3000
    """The number of pointers of the workflow whose memory is measured."""
    imports: int = 15
    """The number of timed imports."""


FULL = Plan("full")
QUICK = Plan(
    "quick",
    sizes=(1, 10, 1000),
    race=0.3,
    min_calls=2,
    turn=20,
    slow_behind_delay=10,
    crowd=20_000,
    waiting=50,
    workflows=8,
    writers=(1, 16),
    purged=10_000,
    slice=0.3,
    slices=2,
    pauses=3.0,
    remembered=300,
    imports=1,
)
