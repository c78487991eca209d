"""Races: several ways of doing the same work, timed in turn, so that what else the machine does meets all of them."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Call = Callable[[], object]
Prepare = Callable[[], Call]
"""Brings about the state before the call, which is not timed, and gives the call, which is."""

Timings = dict[str, list[float]]

WARM_UP = 12
"""Calls before the first timed one: psycopg prepares at the fifth, the server settles on a plan after five more."""

_UNEVEN = 1.5
_ENOUGH = 10
_RESAMPLES = 200


class Progress(Protocol):
    """Who is told how far it is."""

    def section(self, name: str) -> None:
        """A section begins."""

    def race(self, title: str) -> None:
        """A race begins; the one before has ended."""

    def advance(self, part: float) -> None:
        """This part of the race is over, from 0 to 1."""


@dataclass(frozen=True)
class Ratio:
    """How one way's median stands to another's, and where it lies in 95 of 100 resamples of the same timings."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Race:
    """The timings of one race: seconds, by way."""

    title: str
    times: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The part of each in which this thread was computing, not waiting for the server."""
    round_trips: dict[str, int] = field(default_factory=dict)
    """How often one call waits for the server, by way; counted behind the proxy only."""

    def median(self, way: str) -> float:
        """The way's median, in seconds."""
        return statistics.median(self.times[way])

    def ratio(self, way: str, against: str) -> Ratio:
        """How many times as long the way takes."""
        medians = sorted(
            statistics.median(_resample(self.times[way], draw))
            / statistics.median(_resample(self.times[against], draw))
            for draw in map(random.Random, range(_RESAMPLES))
        )
        edge = _RESAMPLES // 40
        return Ratio(self.median(way) / self.median(against), medians[edge], medians[-edge - 1])


def race(title: str, ways: Mapping[str, Prepare], seconds: float, fewest: int, progress: Progress) -> Race:
    """Time the ways in turn, A B C, B C A, C A B ..., for so many seconds, and each at least `fewest` times.

    A way that has taken much more than its even share of the time sits out rounds, so that a slow one does not take the
    others' rounds away; and where the fewest calls of a slow one have taken all the time, the others get some more.
    The garbage collector stays on, as it is in a real program, but does not look at what was there before the race
    (`gc.freeze`; whoever runs races unfreezes when all are done).
    """
    progress.race(title)
    for prepare in ways.values():
        _warm_up(prepare, seconds / 10 / len(ways))
    gc.collect()
    gc.freeze()
    return Race(title, *_run(ways, seconds, fewest, progress))


def _run(ways: Mapping[str, Prepare], seconds: float, fewest: int, progress: Progress) -> tuple[Timings, Timings]:
    """The times of all calls and their computing times, by way."""
    times: Timings = {name: [] for name in ways}
    computing: Timings = {name: [] for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    order = list(ways)
    share = 1 / len(ways)
    begin = now = time.perf_counter()

    def wants(name: str) -> bool:
        calls, elapsed = len(times[name]), now - begin
        if calls < fewest:
            return True
        if elapsed > seconds:
            return calls < _ENOUGH * fewest and spent[name] < share * seconds
        return spent[name] <= _UNEVEN * share * elapsed

    while now < begin + seconds or any(map(wants, order)):
        for name in filter(wants, tuple(order)):
            before = now
            took, computed = _time(ways[name]())
            times[name].append(took)
            computing[name].append(computed)
            now = time.perf_counter()
            spent[name] += now - before
        order.append(order.pop(0))
        progress.advance(min(1.0, (now - begin) / seconds))
    return times, computing


def _time(call: Call) -> tuple[float, float]:
    computed, before = time.thread_time_ns(), time.perf_counter_ns()
    call()
    after = time.perf_counter_ns()
    return (after - before) / 1e9, (time.thread_time_ns() - computed) / 1e9


def _warm_up(prepare: Prepare, seconds: float) -> None:
    end = time.perf_counter() + seconds
    for _ in range(WARM_UP):
        prepare()()
        if time.perf_counter() > end:
            return


def _resample(times: Sequence[float], draw: random.Random) -> list[float]:
    return draw.choices(times, k=len(times))
