"""The conformance suite for persistence providers of the WFE engine, as pytest classes to inherit from.

    class TestMyProvider(PersistenceConformance):
        @pytest.fixture
        def provider(self):
            return MyProvider(...)          # on an empty store

`configure` can also be overridden; see `Conformance`. The parts can be inherited separately, for example to repeat some
of them with another configuration. `SequentialConformance` can also run inside a single transaction.

`HostConformance` is the suite for hosts; `QueueConformance`, `LockConformance` and `LifecycleConformance` are those for
queues, lock services and lifecycle publishers.
"""

from pkgutil import iter_modules

try:
    import hypothesis  # noqa: F401
    import pytest
except ImportError as _missing:
    raise ImportError(
        "the conformance suite needs pytest and hypothesis: pip install 'pytest>=8.3' 'hypothesis>=6.100'"
    ) from _missing

# Must precede the imports, so that failing assertions in these modules show the compared values.
pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in iter_modules(__path__)))

from wfe_postgres.testing.conformance.commands import CommandConformance, StoreConformance  # noqa: E402
from wfe_postgres.testing.conformance.creating import CreatingConformance  # noqa: E402
from wfe_postgres.testing.conformance.events import EventConformance  # noqa: E402
from wfe_postgres.testing.conformance.hosts import Host, HostConformance, MakeHost  # noqa: E402
from wfe_postgres.testing.conformance.leases import LeaseConformance  # noqa: E402
from wfe_postgres.testing.conformance.lifecycle import LifecycleConformance  # noqa: E402
from wfe_postgres.testing.conformance.locks import LockConformance  # noqa: E402
from wfe_postgres.testing.conformance.properties import PropertyConformance  # noqa: E402
from wfe_postgres.testing.conformance.queues import QueueConformance  # noqa: E402
from wfe_postgres.testing.conformance.races import RaceConformance  # noqa: E402
from wfe_postgres.testing.conformance.refusals import RefusalConformance  # noqa: E402
from wfe_postgres.testing.conformance.revisions import RevisionConformance  # noqa: E402
from wfe_postgres.testing.conformance.saving import SavingConformance  # noqa: E402
from wfe_postgres.testing.conformance.status_changes import StatusConformance  # noqa: E402
from wfe_postgres.testing.conformance.subscriptions import SubscriptionConformance  # noqa: E402
from wfe_postgres.testing.conformance.support import Configure, Conformance  # noqa: E402
from wfe_postgres.testing.conformance.transactions import TransactionConformance  # noqa: E402
from wfe_postgres.testing.conformance.values import ValueConformance  # noqa: E402


class SequentialConformance(
    CreatingConformance,
    SavingConformance,
    RevisionConformance,
    StatusConformance,
    TransactionConformance,
    EventConformance,
    SubscriptionConformance,
    CommandConformance,
    StoreConformance,
    ValueConformance,
):
    """Single-threaded tests, which can also run inside one transaction."""


class PersistenceConformance(
    SequentialConformance,
    RefusalConformance,
    PropertyConformance,
    RaceConformance,
    LeaseConformance,
):
    """The complete suite."""


__all__ = [
    "Configure",
    "Conformance",
    "Host",
    "HostConformance",
    "LeaseConformance",
    "LifecycleConformance",
    "LockConformance",
    "MakeHost",
    "PersistenceConformance",
    "PropertyConformance",
    "QueueConformance",
    "RaceConformance",
    "RefusalConformance",
    "SequentialConformance",
]
