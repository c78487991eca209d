"""Counters and measurements of the fault tests, printed at the end of the long form."""

from collections import Counter
from threading import Lock

FAULTS, ACKNOWLEDGED, FAILED, LOST, DUPLICATED, UNKNOWN = (
    "faults injected",
    "calls acknowledged",
    "calls failed with a typed error",
    "acknowledged and lost",
    "executed twice",
    "outcome unknown",
)
_lock = Lock()
_counts: dict[str, Counter[str]] = {}
_measured: list[str] = []


def count(test: str, **counts: int) -> None:
    """Add to the counters of a test: `faults`, `acknowledged`, `failed`, `lost`, `duplicated` and `unknown`."""
    with _lock:
        _counts.setdefault(test, Counter()).update({NAMES[name]: number for name, number in counts.items()})


NAMES = {
    "faults": FAULTS,
    "acknowledged": ACKNOWLEDGED,
    "failed": FAILED,
    "lost": LOST,
    "duplicated": DUPLICATED,
    "unknown": UNKNOWN,
}


def measured(what: str) -> None:
    """Add a line with what a test has measured."""
    _measured.append(what)


def lines() -> list[str]:
    """Return one line for each test, one for the total, and those of the measurements."""
    total: Counter[str] = Counter()
    for counts in _counts.values():
        total.update(counts)
    return [
        f"{test}: " + ", ".join(f"{name} {counts[name]:,}" for name in NAMES.values() if name in counts)
        for test, counts in [*sorted(_counts.items()), ("total", total)]
    ] + _measured
