"""Races: several implementations of an operation, timed in turn, so that other load affects all of them equally."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

Call = Callable[[], object]
Prepare = Callable[[], Call]
"""Prepares the state (not timed) and returns the call that is timed."""

Turn = Callable[[], tuple[float, float]]
"""Makes one call or several; returns their wall-clock and CPU time."""

Timings = dict[str, list[float]]

WARM_UP = 12
"""Calls before the first timed one: psycopg prepares at the fifth call, the server chooses a plan after five more."""

_MAX_SHARE = 1.5
_EXTRA_CALLS = 10
_RESAMPLES = 200


class Progress(Protocol):
    """Receives progress notifications."""

    def section(self, name: str) -> None:
        """A section starts."""

    def race(self, title: str) -> None:
        """A race starts; the previous one has ended."""

    def advance(self, fraction: float) -> None:
        """The completed fraction of the race, from 0 to 1."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, with a 95 % bootstrap confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Race:
    """The timings of a race in seconds, by implementation."""

    title: str
    times: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The CPU time of this thread for each call, without the time spent waiting for the server."""
    round_trips: dict[str, int] = field(default_factory=dict)
    """Round trips per call, by implementation; counted with the proxy only."""

    def median(self, implementation: str) -> float:
        """The median of an implementation in seconds."""
        return statistics.median(self.times[implementation])

    def ratio(self, implementation: str, against: str) -> Ratio:
        """The ratio of the medians of two implementations."""
        medians = sorted(
            statistics.median(_resample(self.times[implementation], draw))
            / statistics.median(_resample(self.times[against], draw))
            for draw in map(random.Random, range(_RESAMPLES))
        )
        edge = _RESAMPLES // 40
        return Ratio(self.median(implementation) / self.median(against), medians[edge], medians[-edge - 1])


def race(
    title: str,
    implementations: Mapping[str, Prepare],
    seconds: float,
    min_calls: int,
    progress: Progress,
    *,
    turn: int = 1,
) -> Race:
    """Time the implementations in turn for `seconds`, each at least `min_calls` times.

    Each round has an order of its own, chosen at random: an implementation takes up to a tenth less time after one that
    runs the same code of psycopg or SQLAlchemy, and in a fixed order always comes after the same one.

    An implementation that has used much more than its share of the time skips rounds, so that a slow one does not
    reduce the number of calls of the others. If the minimum calls of a slow one have used all the time, the others get
    more. The garbage collector is enabled, as in a real program, but ignores objects created before the race
    (`gc.freeze`; the caller must call `gc.unfreeze` after the last race).

    With `turn`, an implementation makes so many consecutive calls when it is next; their median counts as one call.
    """
    progress.race(title)
    for prepare in implementations.values():
        _warm_up(prepare, seconds / 10 / len(implementations))
    gc.collect()
    gc.freeze()
    turns = {name: partial(_turn, prepare, turn) for name, prepare in implementations.items()}
    return Race(title, *_run(turns, seconds, min_calls, progress))


def _run(turns: Mapping[str, Turn], seconds: float, min_calls: int, progress: Progress) -> tuple[Timings, Timings]:
    """The wall-clock and CPU times of all turns, by implementation."""
    times: Timings = {name: [] for name in turns}
    cpu_times: Timings = {name: [] for name in turns}
    spent = dict.fromkeys(turns, 0.0)
    order = list(turns)
    share = 1 / len(turns)
    shuffle = random.Random(0).shuffle
    begin = now = time.perf_counter()

    def is_next(name: str) -> bool:
        calls, elapsed = len(times[name]), now - begin
        if calls < min_calls:
            return True
        if elapsed > seconds:
            return calls < _EXTRA_CALLS * min_calls and spent[name] < share * seconds
        return spent[name] <= _MAX_SHARE * share * elapsed

    while now < begin + seconds or any(map(is_next, order)):
        shuffle(order)
        for name in filter(is_next, order):
            before = now
            took, computed = turns[name]()
            times[name].append(took)
            cpu_times[name].append(computed)
            now = time.perf_counter()
            spent[name] += now - before
        progress.advance(min(1.0, (now - begin) / seconds))
    return times, cpu_times


def _turn(prepare: Prepare, calls: int) -> tuple[float, float]:
    """The medians of the wall-clock and CPU times of so many consecutive calls."""
    times, cpu_times = zip(*(_time(prepare()) for _ in range(calls)), strict=True)
    return statistics.median(times), statistics.median(cpu_times)


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
