"""The conformance suite: what any persistence provider of the WFE engine must satisfy, as pytest tests to inherit.

    class TestMyProvider(PersistenceConformance):
        @pytest.fixture
        def provider(self):
            return MyProvider(...)          # on an empty store

`configure` may be overridden as well; see `Conformance`. The parts can be inherited alone, to run some of them again
under another configuration; `SequentialConformance` is the one that can be run inside one transaction, too.
"""

from pkgutil import iter_modules

try:
    import hypothesis  # noqa: F401
    import pytest
except ImportError as _missing:
    raise ImportError(
        "the conformance suite needs pytest and hypothesis: pip install 'pytest>=8.3' 'hypothesis>=6.100'"
    ) from _missing

# Before they are imported, or a failing assertion of theirs would not say what was compared.
pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in iter_modules(__path__)))

from wfe_postgres.testing.conformance.commands import CommandConformance, StoreConformance  # noqa: E402
from wfe_postgres.testing.conformance.creating import CreatingConformance  # noqa: E402
from wfe_postgres.testing.conformance.events import EventConformance  # noqa: E402
from wfe_postgres.testing.conformance.leases import LeaseConformance  # noqa: E402
from wfe_postgres.testing.conformance.properties import PropertyConformance  # noqa: E402
from wfe_postgres.testing.conformance.races import RaceConformance  # noqa: E402
from wfe_postgres.testing.conformance.refusals import RefusalConformance  # noqa: E402
from wfe_postgres.testing.conformance.revisions import RevisionConformance  # noqa: E402
from wfe_postgres.testing.conformance.saving import SavingConformance  # noqa: E402
from wfe_postgres.testing.conformance.subscriptions import SubscriptionConformance  # noqa: E402
from wfe_postgres.testing.conformance.support import Configure, Conformance  # noqa: E402
from wfe_postgres.testing.conformance.values import ValueConformance  # noqa: E402


class SequentialConformance(
    CreatingConformance,
    SavingConformance,
    RevisionConformance,
    EventConformance,
    SubscriptionConformance,
    CommandConformance,
    StoreConformance,
    ValueConformance,
):
    """What one thread can see, a call after the other, inside one transaction as well as without."""


class PersistenceConformance(
    SequentialConformance,
    RefusalConformance,
    PropertyConformance,
    RaceConformance,
    LeaseConformance,
):
    """The whole suite."""


__all__ = [
    "Configure",
    "Conformance",
    "LeaseConformance",
    "PersistenceConformance",
    "PropertyConformance",
    "RaceConformance",
    "RefusalConformance",
    "SequentialConformance",
]
