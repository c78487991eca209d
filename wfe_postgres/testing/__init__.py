"""Testing tools for authors of hosts and providers: an in-memory provider and conformance suites.

`wfe_postgres.testing.memory` has no further dependencies; `HostConformance` and `wfe_postgres.testing.conformance`
require pytest and hypothesis.
"""

from typing import TYPE_CHECKING, Any

from wfe_postgres.testing.clock import ManualClock
from wfe_postgres.testing.memory import InMemoryPersistenceProvider
from wfe_postgres.testing.services import InMemoryLifecyclePublisher, InMemoryLockProvider, InMemoryQueueProvider

if TYPE_CHECKING:
    from wfe_postgres.testing.conformance import HostConformance as HostConformance

__all__ = [
    "InMemoryLifecyclePublisher",
    "InMemoryLockProvider",
    "InMemoryPersistenceProvider",
    "InMemoryQueueProvider",
    "ManualClock",
]


def __getattr__(name: str) -> Any:
    """Import the suite for hosts when it is asked for: it needs pytest."""
    if name == "HostConformance":
        from wfe_postgres.testing.conformance import HostConformance

        return HostConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
