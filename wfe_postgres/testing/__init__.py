"""Testing tools for authors of hosts and providers: an in-memory provider and a conformance suite.

`wfe_postgres.testing.memory` has no further dependencies; `wfe_postgres.testing.conformance` requires pytest and
hypothesis.
"""

from wfe_postgres.testing.clock import ManualClock
from wfe_postgres.testing.memory import InMemoryPersistenceProvider

__all__ = ["InMemoryPersistenceProvider", "ManualClock"]
