"""Testing tools for authors of hosts and providers: an in-memory provider and a conformance suite.

`wfe_postgres.testing.memory` has no further dependencies; `wfe_postgres.testing.conformance` requires pytest and
hypothesis.
"""

from wfe_postgres.testing.clock import ManualClock
from wfe_postgres.testing.memory import InMemoryPersistenceProvider
from wfe_postgres.testing.services import InMemoryLifecyclePublisher, InMemoryLockProvider, InMemoryQueueProvider

__all__ = [
    "InMemoryLifecyclePublisher",
    "InMemoryLockProvider",
    "InMemoryPersistenceProvider",
    "InMemoryQueueProvider",
    "ManualClock",
]
