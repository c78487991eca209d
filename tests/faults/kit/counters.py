"""What the fault tests count, for the table at the end of a long run."""

from collections import Counter
from threading import Lock

FAULTS, ACKNOWLEDGED, FAILED, LOST, DOUBLED, UNKNOWN = (
    "faults injected",
    "calls acknowledged",
    "calls failed with a typed error",
    "acknowledged and lost",
    "done twice",
    "outcome unknown",
)
_lock = Lock()
_counts: dict[str, Counter[str]] = {}


def count(test: str, **what: int) -> None:
    """Add to a test's line: `faults=`, `acknowledged=`, `failed=`, `lost=`, `doubled=`, `unknown=`."""
    with _lock:
        _counts.setdefault(test, Counter()).update({NAMES[name]: number for name, number in what.items()})


NAMES = {
    "faults": FAULTS,
    "acknowledged": ACKNOWLEDGED,
    "failed": FAILED,
    "lost": LOST,
    "doubled": DOUBLED,
    "unknown": UNKNOWN,
}


def lines() -> list[str]:
    """The table: a line a test, and the sum."""
    total: Counter[str] = Counter()
    for counts in _counts.values():
        total.update(counts)
    return [
        f"{test}: " + ", ".join(f"{name} {counts[name]:,}" for name in NAMES.values() if name in counts)
        for test, counts in [*sorted(_counts.items()), ("together", total)]
    ]
