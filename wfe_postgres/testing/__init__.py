"""For people who write hosts or other providers: an in-memory provider, and the conformance suite it passes.

`wfe_postgres.testing.memory` needs nothing more than the library; `wfe_postgres.testing.conformance` needs pytest
and hypothesis.
"""

from wfe_postgres.testing.memory import InMemoryPersistenceProvider

__all__ = ["InMemoryPersistenceProvider"]
